"""What a model returns for an error is a failure, as ModelOps has it; docs/modelops.md is the rule."""

import io
import json

import pyarrow as pa
import pytest

from executor_helpers import settings, task, write_bundle
from modelops_dask import executors
from modelops_dask.executors.outputs import check_outputs, find_failure
from study_helpers import SMALL, mops_helm

RETURNS = """
def wire(entrypoint, params, seed):
    return {name: bytes.fromhex(data) for name, data in params["outputs"].items()}
"""


def table(**columns):
    sink = io.BytesIO()
    made = pa.table(columns)
    with pa.ipc.new_file(sink, made.schema) as writer:
        writer.write_table(made)
    return sink.getvalue()


def js(value):
    return json.dumps(value).encode()


CALABARIA = {"error": "Entrypoint m not in registry", "available_models": ["models.seir"]}
FAILURES = {  # outputs, reason, last line of the error
    "error alone": (
        {"error": js({"error": "no such station", "type": "LookupError"})},
        "LookupError",
        "no such station",
    ),
    "its type has a module": (
        {"error": js({"error": "x", "type": "json.JSONDecodeError"})},
        "JSONDecodeError",
        "x",
    ),
    "contract's names": ({"error": js({"error_type": "KeyError", "message": "r0"})}, "KeyError", "r0"),
    "error without a type": ({"error": js({"error": "broken"})}, "ModelError", "broken"),
    "error within": ({"error": js({"error": {"type": "OSError", "message": "disk"}})}, "OSError", "disk"),
    "a text": ({"error": b"went wrong"}, "ModelError", "went wrong"),
    "a JSON text": ({"error": js("went wrong")}, "ModelError", "went wrong"),
    "other JSON": ({"error": js([1, 2])}, "ModelError", "[1, 2]"),
    "a table of the error, alone": (
        {"error": table(error=["ValueError: r0 is negative"])},
        "ModelError",
        "r0 is negative",
    ),
    "bytes that are no text": ({"error": b"\xff\xfe\x00"}, "ModelError", ""),
    "error beside an empty table": (
        {"table": b"", "error": js({"error": "x", "type": "OSError"})},
        "OSError",
        "x",
    ),
    "metadata": (
        {"table": b"", "metadata": js({"error": "No registry found", "seed": 3})},
        "ModelError",
        "No registry found",
    ),
    "metadata beside a table": ({"table": b"x", "metadata": js({"error": "late"})}, "ModelError", "late"),
    "metadata with a type": ({"metadata": js({"error": "x", "type": "ValueError"})}, "ValueError", "x"),
    "a type that is no exception": ({"metadata": js({"error": "x", "type": "target"})}, "ModelError", "x"),
    "calabaria": ({"table": b"", "metadata": js(CALABARIA)}, "ModelError", "not in registry"),
    "empty": ({"table": b"", "other": b""}, "EmptyOutputs", "table, other"),
    "one, empty": ({"table": b""}, "EmptyOutputs", "table"),
    "empty beside metadata": ({"table": b"", "metadata": js({"seed": 1})}, "EmptyOutputs", "table"),
    "empty error": ({"error": b""}, "EmptyOutputs", "error"),
    "empty metadata": ({"metadata": b""}, "EmptyOutputs", "metadata"),
    "nothing": ({}, "NoOutputs", "no outputs"),
}
DATA = {
    "an error table beside others": {"error": table(rmse=[0.1]), "curve": table(i=[1])},
    "error beside metadata": {"error": table(rmse=[0.1]), "metadata": js({"seed": 1})},
    "error JSON beside others": {"error": js({"error": 0.1}), "curve": b"x"},
    "null in error": {"error": js({"error": None, "seed": 1})},
    "null in metadata": {"table": b"x", "metadata": js({"error": None})},
    "false in metadata": {"table": b"x", "metadata": js({"error": False})},
    "an empty text in metadata": {"table": b"x", "metadata": js({"error": ""})},
    "error deep in metadata": {"table": b"x", "metadata": js({"fit": {"error": 0.3}})},
    "a list in metadata": {"table": b"x", "metadata": js(["error"])},
    "metadata that is no JSON": {"table": b"x", "metadata": b'\xff"error": 1'},
    "metadata too deep to read": {"table": b"x", "metadata": b'["error"' + b"[" * 100_000},
    "one of two empty": {"table": b"x", "other": b""},
    "metadata alone": {"metadata": js({"seed": 1})},
    "a name like error": {"errors": js({"error": "x"})},
}


@pytest.mark.parametrize(("outputs", "reason", "text"), FAILURES.values(), ids=FAILURES)
def test_failures(outputs, reason, text):
    found = find_failure(check_outputs(outputs))
    assert found is not None and found[0] == reason
    last = found[1].splitlines()[-1]
    assert last.startswith(f"{reason}: ") or not text
    assert text in last
    assert "available_models" in found[1] or "available_models" not in str(outputs), "nothing is lost"


def test_a_name_that_cannot_be_stored_is_named():
    with pytest.raises(TypeError, match=r"an output with the name '\\udc80x', which cannot be stored"):
        check_outputs({"\udc80x": b"1"})


def test_names_are_listed_without_their_control_characters():
    found = find_failure(check_outputs({"a\nb\x1b[2J": b"", "c": b""}))
    assert found is not None and "'a\\nb\\x1b[2J', c" in found[1]


@pytest.mark.parametrize("outputs", DATA.values(), ids=DATA)
def test_data(outputs):
    assert find_failure(check_outputs(outputs)) is None


def test_a_traceback_is_kept():
    said = {
        "error": "no",
        "type": "ValueError",
        "traceback": "Traceback (most recent call last):\n  File x\n",
    }
    _, error = find_failure({"error": js(said)})
    assert "File x" in error and error.endswith("\nValueError: no")


@pytest.mark.parametrize("kind", executors.TYPES)
def test_all_executors_agree(tmp_path, kind):
    chosen = settings(tmp_path, executor_type=kind)
    source = write_bundle(tmp_path / "returns", {"wire.py": RETURNS})
    cases = [
        FAILURES["error alone"][0],
        DATA["one of two empty"],
        FAILURES["nothing"][0],
        DATA["null in error"],
    ]
    tasks = [
        task(source, chosen, outputs={name: data.hex() for name, data in outputs.items()})
        for outputs in cases
    ]
    with executors.create(chosen) as executor:
        outcomes = executor.run_all(tasks)
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [
        ("failed", "LookupError"),
        ("ok", ""),
        ("failed", "NoOutputs"),
        ("ok", ""),
    ]
    assert [dict(outcome.outputs) for outcome in outcomes] == [{}, cases[1], {}, cases[3]]


MEMBER = """
import enum

class Name(str, enum.Enum):
    ALPHA = "alpha"

def wire(entrypoint, params, seed):
    return {Name.ALPHA: "text"}
"""


@pytest.mark.parametrize("kind", executors.TYPES)
def test_a_name_that_is_a_member_of_an_enum_is_its_text(tmp_path, kind):
    chosen = settings(tmp_path, executor_type=kind)
    source = write_bundle(tmp_path / "member", {"wire.py": MEMBER})
    with executors.create(chosen) as executor:
        outcome = executor.run(task(source, chosen))
    assert [(type(name), str(name), data) for name, data in outcome.outputs.items()] == [
        (str, "alpha", b"text")
    ]


INTERRUPTED = "def wire(entrypoint, params, seed):\n    raise KeyboardInterrupt('enough')\n"


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork", "cold"])
def test_a_model_that_interrupts_itself_has_failed(tmp_path, kind):
    chosen = settings(tmp_path, executor_type=kind)
    source = write_bundle(tmp_path / "interrupted", {"wire.py": INTERRUPTED})
    with executors.create(chosen) as executor:
        outcome = executor.run(task(source, chosen))
    assert (outcome.status, outcome.reason) == ("failed", "KeyboardInterrupt")
    assert outcome.error.rstrip().endswith("KeyboardInterrupt: enough") and "wire.py" in outcome.error


def test_a_study_counts_them_and_tells_of_empty_outputs(tmp_path):
    names = ["error alone", "metadata", "empty", "nothing"]
    outputs = [FAILURES[name][0] for name in names] + [DATA["one of two empty"]]
    write_bundle(tmp_path / "bundle", {"wire.py": RETURNS})
    grid = [{name: data.hex() for name, data in each.items()} for each in outputs]
    study = {"entrypoint": "m.s/b", "bundle": "bundle", "grid": {"outputs": grid}, "replicates": 2}
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    done = mops_helm("study", "run", "study.yaml", "--store", "out", *SMALL, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    for text in ("LookupError: no such station", "No registry found", "EmptyOutputs", "NoOutputs"):
        assert text in done.stdout
    assert "2 tasks that ended ok have an output 'other' of 0 bytes" in done.stdout
