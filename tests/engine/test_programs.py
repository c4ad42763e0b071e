"""Programs instead of models: how they are called, what their end means, and what they leave behind."""

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from executor_helpers import is_gone, settings
from helpers import wait_for
from modelops_dask import bundle as bundles
from modelops_dask import executors
from modelops_dask.bundle.pack import pack
from modelops_dask.errors import BadInput
from modelops_dask.executors import Task, program_start
from modelops_dask.executors.programs import count_threads
from modelops_dask.plan import spec
from modelops_dask.study.commands import check_program

KINDS = ["isolated_warm", "isolated_fork", "cold", "direct"]
CC = shutil.which("cc")
OF_TASK = ("{seed}", "{scenario}", "{threads}")


@pytest.fixture(scope="module")
def executor_of(tmp_path_factory):
    """An executor of each kind, for all tests of this file."""
    folder = tmp_path_factory.mktemp("caches")
    created = {}
    with ExitStack() as stack:

        def executor_of(kind, **chosen):
            key = (kind, *chosen.items())
            if key not in created:
                made = settings(folder, executor_type=kind, executor_environment="image", **chosen)
                created[key] = stack.enter_context(executors.create(made)), made
            return created[key]

        yield executor_of


@pytest.fixture
def models():
    """The bundles of the tasks that a test has run."""
    return []


@pytest.fixture
def run(executor_of, models, tmp_path):
    """Run a shell script as a study's program, under an executor."""

    def run(kind, script, params=None, seed=7, *, chosen=None, limit_bytes=0, threads=0, files=None, **study):
        for name, text in {"model": f"#!/bin/sh\n{script}\n", **(files or {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        params = {"x": 1.5} if params is None else params
        content = {
            "command": ["./model", "{x}", "{seed}"],
            "outputs": {"out": "out.txt"},
            "fixed": params,
            "sets": [{}],
        }
        loaded = spec.from_content({**content, **study}, tmp_path)
        executor, made = executor_of(kind, **(chosen or {}))
        model = replace(bundles.fetch(str(tmp_path), made.bundles_cache_dir), program=loaded.program)
        models.append(model)
        task = Task(model, loaded.entrypoint, params, seed, limit_bytes=limit_bytes, threads=threads)
        return executor.run(task)

    return run


def output(outcome, name="out"):
    assert outcome.status == "ok", (outcome.reason, outcome.error, outcome.log)
    return outcome.outputs[name]


# What a program is told


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_gets_parameters_seed_scenario_and_threads(kind, run):
    script = 'printf "%s|" "$@" "$R0" "$PWD" > out/a.txt; cat "$7" > copy.txt; echo said'
    outcome = run(
        kind,
        script,
        {"x": 0.1, "name": "two words; $HOME", "on": True, "nothing": None, "list": [1, {"a": "ü"}]},
        2**63 + 1,
        command=[
            "./model",
            "{x}",
            "--name={name}",
            "{on}{{}}",
            "{seed}",
            "{scenario}",
            "{threads}",
            "{parameters_file}",
        ],
        environment={"R0": "r0 is {x} {nothing}"},
        parameters_file="in/params.json",
        outputs={"args": "out/a.txt", "params": "copy.txt", "said": "-"},
        scenario="high",
    )
    *arguments, variable, folder, _ = output(outcome, "args").decode().split("|")
    assert arguments == [
        "0.1",
        "--name=two words; $HOME",
        "true{}",
        str(2**63 + 1),
        "high",
        "1",
        "in/params.json",
    ]
    assert variable == "r0 is 0.1 null"
    assert Path(folder).name == "b"  # a runner's own copy, not the checked one
    values = {"x": 0.1, "name": "two words; $HOME", "on": True, "nothing": None, "list": [1, {"a": "ü"}]}
    assert json.loads(output(outcome, "params").splitlines()[-1]) == values
    assert output(outcome, "said") == b"said\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [0, 4])
def test_a_program_owns_the_threads_of_its_task(kind, threads, run):
    script = "echo $OMP_NUM_THREADS $OPENBLAS_NUM_THREADS $MKL_NUM_THREADS $1 > out.txt"
    outcome = run(kind, script, command=["./model", "{threads}"], environment={"X": "{x}"}, threads=threads)
    assert output(outcome).split() == [str(threads or 1).encode()] * 4
    assert outcome.threads == (threads or 1)


@pytest.mark.parametrize(("text", "threads"), [("4", 4), ("4,2", 4), ("", 1), ("many", 1), ("0", 1)])
def test_threads_are_those_of_the_outer_level(text, threads):
    assert count_threads(text) == threads


# What its end means


@pytest.mark.parametrize("kind", KINDS)
def test_an_exit_status_is_a_failure_with_the_end_of_standard_error(kind, run):
    script = "echo progress; for i in $(seq 100); do echo line $i >&2; done; echo bad x: $1 >&2; exit 3"
    outcome = run(kind, script)
    assert (outcome.status, outcome.reason, outcome.failure) == ("failed", "ProgramFailed", "model")
    first, *lines = outcome.error.splitlines()
    assert first == "ProgramFailed: exit status 3: bad x: 1.5"
    assert lines[0] == "command: ['./model', '1.5', '7']"
    assert lines[-2:] == ["line 100", "bad x: 1.5"] and "line 1" not in lines and "progress" not in lines
    assert "progress" in outcome.log and "bad x: 1.5" in outcome.log


def test_what_was_printed_is_the_error_where_standard_error_is_empty(run):
    assert "STOP 7" in run("isolated_warm", "echo STOP 7; exit 7").error


def test_two_failures_of_one_kind_are_word_for_word_alike(run):
    first, second = run("isolated_warm", "exit 2"), run("isolated_warm", "exit 2")
    assert first.error == second.error


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        *((kind, signal.SIGSEGV) for kind in KINDS),
        ("isolated_warm", signal.SIGKILL),
        ("cold", signal.SIGTERM),
    ],
)
def test_a_program_that_is_killed_is_a_death(kind, number, run):
    outcome = run(kind, f"echo dying >&2; kill -{number.value} $$")
    assert (outcome.status, outcome.reason) == ("died", f"killed by signal {number.value}")
    assert "dying" in outcome.error + outcome.log
    assert output(run(kind, "", files={}, command=["sh", "-c", "echo {x} {seed} > out.txt"])) == b"1.5 7\n"


def test_a_shell_that_says_its_program_was_killed_is_a_death_too(run):
    assert run("isolated_warm", "sh -c 'kill -9 $$'; exit $?").reason == "killed by signal 9"
    assert run("cold", "exit 137").reason == "killed by signal 9"


@pytest.mark.parametrize("kind", KINDS)
def test_the_time_limit_ends_the_program_and_all_that_it_started(kind, run, tmp_path):
    pids = tmp_path / "pids"
    script = f"sh -c 'echo $$ >> {pids}; setsid sleep 600' & sleep 600 & echo $$ $! >> {pids}; wait"
    numbers: list[int] = []
    for seconds in (0.5, 4.0, 32.0):  # on a busy machine the program needs longer to begin
        outcome = run(kind, script, chosen={"task_timeout_seconds": seconds})
        assert (outcome.status, outcome.reason) == ("died", "TaskTimeout")
        numbers = [int(word) for word in pids.read_text().split()] if pids.exists() else []
        if len(numbers) >= 3:
            break
    assert len(numbers) >= 3
    for pid in numbers:
        wait_for(lambda pid=pid: is_gone(pid), f"end of process {pid}")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_program_leaves_running_ends_with_it_and_is_not_waited_for(kind, run, tmp_path):
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! > {pids}; setsid sh -c 'echo $$ >> {pids}; sleep 600' & "
    script += f"while [ $(wc -l < {pids}) -lt 2 ]; do :; done; echo done > out.txt"
    assert output(run(kind, script)) == b"done\n"
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: is_gone(int(pid)), f"end of process {pid}")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("isolated_warm", "Cannot allocate memory"),
        ("isolated_fork", "std::bad_alloc"),
        ("cold", "java.lang.OutOfMemoryError: heap"),
    ],
)
def test_a_program_that_gets_no_memory_died_of_that_where_there_is_a_limit(kind, words, run):
    script = f"echo 'x: {words}' >&2; exit 1"
    limited = run(kind, script, limit_bytes=1 << 30)
    assert (limited.status, limited.reason) == ("died", "TaskOOM")
    assert words in limited.error and "exit status 1" in limited.error
    assert run(kind, script).reason == "ProgramFailed"


@pytest.mark.skipif(not CC, reason="no C compiler")
@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork"])
def test_the_limit_of_memory_and_its_peak_are_the_programs(kind, run, tmp_path):
    source = (
        "#include <stdlib.h>\n#include <string.h>\nint main(int n, char **words) {"
        "size_t size = atol(words[1]) << 20; char *data = malloc(size); memset(data, 1, size); return 0; }"
    )
    compile_c(tmp_path, source)
    study = {"outputs": {"said": "-"}, "limit_bytes": 300 << 20}
    enough = run(kind, "", {"x": 100}, command=["./program", "{x}"], **study)
    assert enough.status == "ok" and 100 << 20 <= enough.peak_bytes < 250 << 20
    small = run(kind, "", {"x": 1}, command=["./program", "{x}"], **study)
    assert small.status == "ok" and small.peak_bytes < 60 << 20  # not that of the task before
    too_much = run(kind, "", {"x": 500}, command=["./program", "{x}"], **study)
    assert too_much.status == "died"


def compile_c(folder, source):
    (folder / "program.c").write_text(source)
    subprocess.run([CC, "-O0", "-o", folder / "program", folder / "program.c"], check=True)


# Its files


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_of_an_earlier_task_is_never_read(kind, run):
    script = "if [ $2 = 1 ]; then echo first > out.txt; echo more > extra.txt; fi; ls > list.txt"
    study = {"outputs": {"out": "out.txt", "list": "list.txt"}}
    assert output(run(kind, script, seed=1, **study)) == b"first\n"
    second = run(kind, script, seed=2, **study)
    assert (second.status, second.reason) == ("failed", "MissingOutput")
    assert "output out: the program did not write out.txt" in second.error and "list.txt" in second.error
    third = run(kind, script, seed=3, outputs={"list": "list.txt"})
    assert output(third, "list").split() == [b"list.txt", b"model"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_that_the_bundle_has_is_not_a_result(kind, run):
    assert run(kind, "true", files={"out.txt": "of the author"}).reason == "MissingOutput"
    assert output(run(kind, "true", command=["sh", "-c", "cat data > out.txt; echo {x} > data; : {seed}"],
                      files={"data": "as it was"})) == b"as it was"  # fmt: skip
    assert (
        output(run(kind, "true", command=["sh", "-c", "cat data > out.txt; echo {x} > data; : {seed}"]))
        == b"as it was"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_outputs_are_there_and_undeclared_files_are_noted(kind, run, executor_of, models):
    outcome = run(kind, "echo 1 > a/b/c.txt; echo 2 > other.txt", outputs={"out": "a/b/c.txt"})
    assert output(outcome) == b"1\n"
    executor = executor_of(kind)[0]  # a zygote puts files back when it has answered
    written_files = wait_for(lambda: executor.file_changes(models[0]).written_files, "the note")
    assert written_files == ("other.txt",)


def test_a_value_in_a_files_name_does_not_lead_out_of_the_folder(run, tmp_path):
    outside = tmp_path / "kept.txt"
    outside.write_text("kept")
    names = {"x": f"../../../../../../../..{tmp_path}/kept"}
    outcome = run("isolated_warm", ": {seed}", names, outputs={"out": "{x}.txt"})
    assert (outcome.status, outcome.reason) == ("failed", "UnreadableOutput")
    assert "not in the folder" in outcome.error and outside.read_text() == "kept"


@pytest.mark.parametrize(
    ("study", "script", "text"),
    [
        ({"outputs": {"out": "a"}}, "mkdir a", "a is a folder"),
        ({"outputs": {"out": "a"}}, "mkfifo a", "a is not a file"),
        ({"outputs": {"out": "a.json"}}, "echo '{' > a.json", "output out, a.json: not JSON"),
        ({"outputs": {"out": "a.parquet"}}, "echo PAR1 > a.parquet", "a.parquet: not a Parquet file"),
        ({"outputs": {"out": "a.csv"}}, ": > a.csv", "a.csv: the first line must name the columns"),
        (
            {"outputs": {"out": {"file": "-", "format": "csv"}}},
            "printf 'a,b\\n1\\n'",
            "standard output, line 2",
        ),
    ],
)
def test_an_output_that_is_not_what_was_declared_is_named(study, script, text, run):
    outcome = run("isolated_warm", script, **study)
    assert (outcome.status, outcome.reason) == ("failed", "UnreadableOutput"), outcome.error
    assert text in outcome.error


def test_an_output_named_error_is_an_output(run):
    assert (
        output(run("isolated_warm", "echo 0.1 > out.txt", outputs={"error": "out.txt"}), "error") == b"0.1\n"
    )
    assert output(run("isolated_warm", ": > out.txt", outputs={"nothing": "out.txt"}), "nothing") == b""


def test_files_of_its_own_are_refused_to_a_program_only_where_tasks_share_them(run):
    with pytest.raises(BadInput, match="privateFiles"):
        run("isolated_warm", "true", chosen={"private_files": False})


# Whether it can be started


def elf(machine: int) -> bytes:
    return b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HH", 2, machine) + bytes(100)


STARTS = {
    "missing": (None, "ProgramNotFound", "there is no ./program in the bundle"),
    "mode": ((b"#!/bin/sh\n", 0o644), "ProgramNotExecutable", "chmod +x ./program"),
    "text": ((b"echo hello\n", 0o755), "ProgramNotExecutable", "[sh, ./program]"),
    "empty": ((b"", 0o755), "ProgramNotExecutable", "is empty"),
    "windows": ((b"#!/bin/sh\r\necho\r\n", 0o755), "ProgramNotExecutable", "Windows line endings"),
    "interpreter": (
        (b"#!/no/such/interpreter -x\n", 0o755),
        "ProgramNotFound",
        "/no/such/interpreter, which",
    ),
    "architecture": ((elf(22), 0o755), "ProgramNotExecutable", "a program for s390x, and this machine is"),
    "damaged": ((elf(62 if os.uname().machine == "x86_64" else 183), 0o755), "ProgramNotExecutable", ""),
    "exe": ((b"MZ\0\0" + bytes(100), 0o755), "ProgramNotExecutable", "a program for Windows"),
    "macos": ((b"\xcf\xfa\xed\xfe" + bytes(100), 0o755), "ProgramNotExecutable", "a program for macOS"),
    "folder": ("folder", "ProgramNotExecutable", "is a folder"),
}
KNOWN_BEFORE = ("missing", "mode", "text", "empty", "windows", "folder")


@pytest.mark.parametrize(("file", "reason", "text"), STARTS.values(), ids=STARTS)
def test_a_program_that_cannot_start_says_why(file, reason, text, run, tmp_path, request):
    if file == "folder":
        (tmp_path / "program").mkdir()
        (tmp_path / "program" / "x").touch()
    elif file:
        (tmp_path / "program").write_bytes(file[0])
        (tmp_path / "program").chmod(file[1])
    outcome = run("isolated_warm", "true", command=["./program", "{x}", "{seed}"])
    if request.node.callspec.id == "damaged":
        assert outcome.status != "ok"  # some kernels start it, and it dies
        return
    assert (outcome.status, outcome.reason) == ("failed", reason), outcome.error
    assert text in outcome.error
    loaded = spec.from_content(
        {"command": ["./program", "{x}"], "outputs": {"a": "b"}, "sets": [{"x": 1}]}, tmp_path
    )
    model = bundles.Bundle(tmp_path, "sha256:0", program=loaded.program)
    if request.node.callspec.id in KNOWN_BEFORE:  # on any machine
        with pytest.raises(BadInput) as caught:
            check_program(model)
        assert text in str(caught.value)
    else:
        check_program(model)


def test_a_program_that_can_start_passes_the_check(tmp_path):
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "sh").write_text("a file that is named like a program on the PATH")
    (tmp_path / "other").write_text("a file that is not")

    def check(name):
        content = {"command": [name, "{x}"], "outputs": {"a": "b"}, "sets": [{"x": 1}]}
        program = spec.from_content(content, tmp_path).program
        check_program(bundles.Bundle(tmp_path, "sha256:0", program=program))

    for name in (
        "./program",
        "sh",
        "no-such-program",
        "/no/such/program",
        "./program-{x}",
        "./model"[:2] + "program",
    ):
        check(name)
    with pytest.raises(BadInput, match=r"write \./other"):
        check("other")
    with pytest.raises(BadInput, match=r"did you mean \./program\?"):
        check("./progam")


def test_a_name_that_is_not_on_the_path_is_named_with_the_path(run):
    outcome = run("isolated_warm", "true", command=["no-such-program", "{x}", "{seed}"])
    assert (outcome.status, outcome.reason) == ("failed", "ProgramNotFound")
    assert "no-such-program is not on the PATH of a task (" in outcome.error and "/usr/bin" in outcome.error
    beside = run("isolated_warm", "true", command=["model", "{x}", "{seed}"])
    assert "write ./model" in beside.error


def test_a_path_of_the_studys_own_is_searched(run):
    study = {"command": ["tool", "{x}", "{seed}"], "environment": {"PATH": "tools:/usr/bin:/bin"}}
    assert (
        output(run("isolated_warm", "", files={"tools/tool": "#!/bin/sh\necho $1 > out.txt"}, **study))
        == b"1.5\n"
    )


def test_arguments_that_are_too_long_are_named(run):
    outcome = run("isolated_warm", "true", {"x": "y" * 200_000})
    assert (outcome.status, outcome.reason) == ("failed", "ProgramError")
    assert "parameters_file" in outcome.error


def test_what_is_not_the_files_doing_is_left_to_the_system():
    for number in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE):
        assert program_start.explain_start("/bin/sh", "sh", OSError(number, "")) is None


def test_executable_bits_survive_packing(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "model").write_text("#!/bin/sh\n")
    (source / "model").chmod(0o755)
    (source / "notes.txt").write_text("")
    model = bundles.fetch(str(source), tmp_path / "cache")
    (tmp_path / "packed.tar.gz").write_bytes(pack(model))
    unpacked = bundles.fetch(str(tmp_path / "packed.tar.gz"), tmp_path / "other")
    assert unpacked.digest == model.digest
    assert os.access(unpacked.path / "model", os.X_OK) and not os.access(unpacked.path / "notes.txt", os.X_OK)
    (source / "model").chmod(0o644)
    assert bundles.fetch(str(source), tmp_path / "cache").digest != model.digest
