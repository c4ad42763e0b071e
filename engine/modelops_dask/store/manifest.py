"""The content of results/manifest.json, which says what is in results/ and what it was built from.

compact.py writes it; results.py and leftovers.py read it
"""

from typing import TypedDict


class Manifest(TypedDict, total=False):
    """results/manifest.json. `files` and `problems` are always there; 0.1.0 wrote no `sizes`."""

    built_from: str
    bundle: str
    entrypoint: str
    tasks: dict[str, int]
    redo_pending: int  # of the pending tasks: those that are to be run again
    problems: list[str]
    files: list[str]
    sizes: dict[str, int]
    names: dict[str, str]  # table, below results/ -> the output in it, as the model calls it
    outputs: list[str]  # the only ones that the study stores; []: all
    left_out: list[str]  # outputs that tasks returned and the study does not store
    missing: list[str]  # outputs that the study names, and that no task returned
    stamp: str  # of an object store: the folder of results/ that holds the tables
    replaced: list[str]  # files of the manifest before
