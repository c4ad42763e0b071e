"""Each command has help, and the documents show it in use."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mops_helm.main import GROUPS, main

ROOT = Path(__file__).resolve().parents[2]
DOCS = "\n".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def leaves(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


@pytest.mark.parametrize(
    ("name", "command"), list(leaves(main)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_documented(name, command):
    assert command.help
    assert f"$ mops-helm {name}" in DOCS, f"docs/ never shows: mops-helm {name}"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} has no help"


def test_no_summary_is_cut_off():
    """The first line of a command's help is what `--help` of its group shows."""
    summaries = {name: (command.help or "").partition("\n")[0] for name, command in leaves(main)}
    summaries |= {name: text for name, (_, text) in GROUPS.items()}
    assert {name: text for name, text in summaries.items() if len(text) > 45 or not text.endswith(".")} == {}
    groups = [[], ["study"], ["preset"], ["values"]]
    pages = [CliRunner().invoke(main, [*words, "-h"]).output for words in groups]
    assert all("Commands:" in page and "..." not in page.partition("Commands:")[2] for page in pages)


@pytest.mark.parametrize(
    ("typed", "near"),
    [("instal sims", "install"), ("stat sims", "status"), ("study rn", "run"), ("preset lst", "list")],
)
def test_a_command_that_is_mistyped_is_told_what_is_near(typed, near):
    done = CliRunner().invoke(main, typed.split())
    assert done.exit_code == 2 and f"Did you mean '{near}'?" in done.stderr
