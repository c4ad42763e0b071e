"""The content of results/manifest.json, which describes results/ and its inputs.

compact.py writes it; results.py and leftovers.py read it
"""

from typing import TypedDict


class Manifest(TypedDict, total=False):
    """results/manifest.json. `files` and `problems` always exist; 0.1.0 wrote no `sizes`."""

    built_from: str
    bundle: str
    entrypoint: str
    tasks: dict[str, int]
    redo_pending: int  # number of the pending tasks that have to run again
    problems: list[str]
    files: list[str]
    sizes: dict[str, int]
    names: dict[str, str]  # table, relative to results/ -> the output in it, as the model names it
    outputs: list[str]  # the only outputs that the study stores; []: all
    left_out: list[str]  # outputs that tasks returned but the study does not store
    missing: list[str]  # outputs that the study lists but no task returned
    stamp: str  # in an object store: the folder of results/ that holds the tables
    replaced: list[str]  # files of the previous manifest
