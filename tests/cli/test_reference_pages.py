"""Generated pages of docs/ are what the code says now, and hand-made tables lack nothing."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import click
import pytest

from modelops_dask import errors

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages() -> Any:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "tools" / "reference_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_have_not_drifted(pages):
    stale = [path.name for path, text in pages.make_pages().items() if path.read_text() != text]
    assert not stale, "run: make generate"


def test_a_new_option_is_drift(pages, monkeypatch):
    before = pages.render_options()
    _, command = next(pages.list_commands(pages.commands, "mops-helm"))
    monkeypatch.setattr(command, "params", [*command.params, click.Option(["--new"], help="Something new.")])
    assert "| `--new TEXT` | Something new. |" in pages.render_options()
    assert "--new TEXT" not in before


def test_a_page_without_its_marks_is_refused(pages):
    with pytest.raises(AssertionError, match="lost the marks"):
        pages.replace_table("# Study file\n", "| field | meaning |")


def test_a_variable_that_no_setting_reads_is_named(pages, monkeypatch):
    monkeypatch.setattr(pages.generate, "variables", lambda *_: [("MODELOPS_NEW", "executor.new")])
    with pytest.raises(SystemExit, match=r"settings.py reads MODELOPS_NEW \(x-env of executor.new\)"):
        pages.render_variables()


def test_every_exit_status_of_an_error_is_described():
    table = set(re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert {str(kind.exit_code) for kind in kinds if issubclass(kind, errors.MopsError)} <= table
    assert {"0", "3", "130"} <= table  # results, and interruption, that are no errors
