"""A script that shows a polluter at work: needs the bundle's folder and interpreter, nothing of ours.

bundle, wire reference, calls -> text of a Python program that exits 1 when the victim's results differ
"""

from collections.abc import Sequence
from pathlib import Path

from modelops_dask.executors.process import Call


def text(bundle: Path, wire: str, polluters: Sequence[Call], victim: Call, threads: int = 0) -> str:
    """The program: the victim alone in one new process, after its polluters in another, both printed.

    wire is what executors.wire.find_wire says of the bundle.
    """
    raise NotImplementedError
