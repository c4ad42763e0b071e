"""A flag means the same in every command, and old spellings keep working and print the new one on stderr."""

import csv
import io
import json

import click
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from cli.test_commands_documented import leaves
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from mops_helm.main import main
from store_helpers import attempt, begin

COMMANDS = dict(leaves(main))
MEANINGS = {  # flag -> its value in every command that has it; None for a flag without one
    "--output": {"[table|json|yaml]", "[table|json|yaml|csv|parquet]"},
    "-o": {"[table|json|yaml]", "[table|json|yaml|csv|parquet]"},
    "--table": {"NAME"},
    "--to": {"FILE"},
    "--tasks": {"N"},
    "--list-tasks": {None},
    "--spec": {"FILE"},
    "--release": {"RELEASE"},
    "-n": {"NAME"},
    "-f": {"FILE"},
    "--bundle": {"REFERENCE"},
    "--set": {"KEY=VALUE"},
    "--preset": {"NAME"},
    "--watch": {None},
}


def type_command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("flag", MEANINGS)
def test_a_flag_takes_the_same_value_in_every_command(flag):
    values = set()
    for command in COMMANDS.values():
        for option in command.params:
            if isinstance(option, click.Option) and flag in option.opts and not option.hidden:
                context = click.Context(command)
                values.add(None if option.is_flag else option.make_metavar(context))
    if flag == "--output":  # the one of `study results`, which has an old meaning too, is not shown
        assert "--output" in COMMANDS["study results"].get_help(click.Context(COMMANDS["study results"]))
    assert values and values <= MEANINGS[flag]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """A study with two outputs, one of which has the name of a format."""
    folder = tmp_path_factory.mktemp("flags")
    files = Store(str(folder / "store"))
    plan = begin(files, folder, sets="[{a: 1}, {a: 2}]", replicates=1)
    outputs = {"json": b"j", "y": b"y"}
    parts.write(files, [attempt(plan, n, 0, outputs=outputs) for n in (0, 1)])
    return files.url


def count_rows(text: str) -> int:
    return len(list(csv.DictReader(io.StringIO(text))))


def test_the_table_is_chosen_by_table_and_the_format_by_output(store):
    for flag in ("-o", "--output"):
        one = type_command("study", "results", store, "--table", "y", flag, "json")
        assert [table["name"] for table in json.loads(one.stdout)] == ["y"] and one.stderr == ""
        written = type_command("study", "results", store, "--table", "y", flag, "csv")
        assert count_rows(written.stdout) == 2 and written.stderr == ""
    everything = type_command("study", "results", store, "-o", "json")
    assert [table["name"] for table in json.loads(everything.stdout)] == ["json", "y", "replicates"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--output", "y", "-o", "json"], ["y"]),
        (["--output", "json", "-o", "json"], ["json"]),  # beside -o it is a table
        (["--output", "yaml"], None),  # no table has that name
    ],
)
def test_an_old_output_is_the_table_if_the_store_has_it_else_the_format(words, names, store):
    listed = type_command("study", "results", store, *words)
    assert listed.exit_code == 0, listed.output
    if names is None:
        assert listed.stdout.startswith("- name: json\n") and listed.stderr == ""
    else:
        assert [table["name"] for table in json.loads(listed.stdout)] == names
        assert listed.stderr == (
            f"Note: --output {names[0]} still works; the new spelling is --table {names[0]}\n"
        )


def test_an_old_output_alone_that_is_a_table_and_a_format_is_the_table(store):
    listed = type_command("study", "results", store, "--output", "json")
    assert listed.stdout.startswith("json: 2 rows") and "--table json" in listed.stderr


def test_an_old_output_that_is_neither_names_the_tables(store):
    wrong = type_command("study", "results", store, "--output", "z")
    assert wrong.exit_code == 2 and "has no output z" in wrong.stderr


def test_to_is_a_file_in_the_format_of_its_name(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = type_command("study", "results", store, "--table", "y", "--to", "y.csv")
    assert (written.exit_code, written.stdout, written.stderr) == (0, "y.csv\n", "")
    assert count_rows((tmp_path / "y.csv").read_text()) == 2
    type_command("study", "results", store, "--table", "y", "--to", "y.parquet")
    assert pq.read_table("y.parquet").num_rows == 2
    type_command("study", "results", store, "--table", "y", "--to", "./csv", "-o", "csv")
    assert count_rows((tmp_path / "csv").read_text()) == 2
    unknown = type_command("study", "results", store, "--table", "y", "--to", "y.txt")
    assert unknown.exit_code == 2 and "FILE.csv or FILE.parquet, or add -o csv" in unknown.stderr


def test_a_file_is_left_as_it_was_when_the_table_cannot_be_written(store, tmp_path):
    path = tmp_path / "y.csv"
    path.write_text("mine")
    failed = type_command("study", "results", store, "--table", "z", "--to", path)
    assert failed.exit_code == 2 and path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["y.csv"]


@pytest.mark.parametrize("word", ["csv", "parquet"])
def test_the_old_to_is_a_format_on_standard_output(word, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = type_command("study", "results", store, "--table", "y", "--to", word)
    new = type_command("study", "results", store, "--table", "y", "-o", word)
    assert old.stdout_bytes == new.stdout_bytes and new.stderr == ""
    assert old.stderr == (
        f"Note: --to {word} still works; the new spelling is -o {word}"
        f" (a file named {word} is --to ./{word})\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("entrypoint: m.s/a\ngrid: {x: [1, 2, 3]}\n")
    return path


def test_tasks_without_a_number_still_lists_them(spec):
    new = type_command("study", "plan", spec, "--list-tasks", "-o", "json")
    assert len(json.loads(new.stdout)) == 3 and new.stderr == ""
    for words in (
        [spec, "--tasks", "-o", "json"],
        ["-o", "json", "--tasks", spec],
        [spec, "-ojson", "--tasks"],
    ):
        old = type_command("study", "plan", *words)
        assert old.stdout == new.stdout
        assert old.stderr == (
            "Note: --tasks without a number still works; the new spelling is --list-tasks\n"
        )


@pytest.mark.parametrize("words", [["--tasks", "0"], ["--tasks=0"], ["--pilot", "0"]])
def test_tasks_with_a_number_is_a_count(words, spec):
    counted = type_command("study", "plan", spec, *words)
    assert counted.exit_code == 2 and "0 is not in the range x>=1" in counted.stderr


def test_diagnose_is_a_command_of_its_own_and_preset_diagnose_stays(spec):
    for words in (["diagnose", spec], ["preset", "diagnose", "--study", spec], ["diagnose", "--study", spec]):
        # --answer is refused only where a study was given
        refused = type_command(*words, "--answer", "cold=gone")
        assert refused.exit_code == 2 and "are for the questions: leave out SPEC" in refused.stderr
    twice = type_command("diagnose", spec, "--study", spec)
    assert twice.exit_code == 2 and "leave out one" in twice.stderr


def test_a_file_named_as_a_format_is_written_as_the_note_says(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = type_command("study", "results", store, "--table", "y", "--to", "./csv")
    assert written.exit_code == 0 and count_rows((tmp_path / "csv").read_text()) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--to", "y.parquet", "-o", "csv"),
        ("--to", "y.csv", "-o", "parquet"),
        ("--to", "parquet", "-o", "csv"),
        ("-o", "parquet", "--output", "csv"),
    ],
)
def test_formats_that_contradict_each_other_are_refused(words, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = type_command("study", "results", store, "--table", "y", *words)
    assert refused.exit_code == 2 and "contradict" in refused.stderr
    assert not list(tmp_path.iterdir())
