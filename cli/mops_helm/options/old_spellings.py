"""Flags with their spelling before 0.2: each keeps its meaning and prints the new spelling on stderr.

The table in docs/cli.md lists them.
"""

import re

import click


def print_new_spelling(old: str, new: str) -> None:
    """Tell the user the new spelling."""
    click.echo(f"Note: {old} still works; the new spelling is {new}", err=True)


class PlanCommand(click.Command):
    """`study plan`, in which --tasks without a number lists the tasks, as --list-tasks does now."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        new_args = list(args)
        for index, arg in enumerate(args):
            if arg == "--":
                break
            if arg == "--tasks" and not re.fullmatch(r"[0-9]+", "".join(args[index + 1 : index + 2])):
                new_args[index] = "--list-tasks"
                print_new_spelling("--tasks without a number", "--list-tasks")
        return super().parse_args(ctx, new_args)
