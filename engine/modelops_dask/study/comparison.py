"""Compare a row of the store with the same task run alone, and explain a difference.

StoredRow + LoneResult -> compare() -> Comparison;   a second run, another replicate -> explain() -> its cause

Bytes are compared, by digests, output by output. A difference is not reported if packages, native threads or
the kind of processor may have caused it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelops_dask.store.checks import Comparison
from modelops_dask.study.late_rows import StoredRow
from modelops_dask.study.lone import LoneResult


def compare(row: StoredRow, result: LoneResult | None, volatile: Collection[str]) -> Comparison:
    """Compare a row with its task run alone; None: that did not end in time, or its worker was lost."""
    values = row.values
    comparison = Comparison(
        set=values["set"],
        replicate=values["replicate"],
        generation=values["generation"] or 0,
        digest=values["digest"].hex(),
        executor=values["executor"] or "",
        outcome="not comparable",
    )
    if result is None:
        return replace(comparison, reason="it did not end in time, or its worker was lost")
    if result.status == "ok":
        names = _differing(values, result, volatile)
        if names is None:
            return replace(comparison, reason="all of its outputs are listed as volatile")
        if not names:
            return replace(comparison, outcome="equal")
        comparison = replace(comparison, outputs=tuple(names))
    else:
        comparison = replace(comparison, reason=f"it {result.status}: {result.reason}")
    if result.environment and result.environment != (values["environment"] or ""):
        return replace(comparison, outputs=(), reason="the worker had other packages")
    if result.threads != (values["threads"] or 0):
        return replace(comparison, outputs=(), reason="it ran with another number of native threads")
    if result.status == "died":
        return comparison
    return replace(comparison, outcome="different")


def _differing(values: Mapping[str, Any], result: LoneResult, volatile: Collection[str]) -> list[str] | None:
    """Names of outputs whose bytes differ, including those that the row left out; None if none may be
    compared.
    """
    digest, left_out = values["digest"], dict(values["left_out"] or ())
    if digest == result.digest:
        return [] if set(result.digests) - set(volatile) else None
    # A row with a single output has no digest for it by name.
    output_digests = values["output_digests"]
    single = dict.fromkeys(result.digests.keys() - left_out.keys(), digest)
    stored = {**(dict(output_digests) if output_digests else single), **left_out}
    names = (stored.keys() | result.digests.keys()) - set(volatile)
    return sorted(name for name in names if stored.get(name) != result.digests.get(name)) if names else None


def explain(
    comparison: Comparison,
    row: StoredRow,
    runs: tuple[LoneResult, LoneResult | None],
    replicate: LoneResult | None,
    *,
    is_one_kind: bool,
) -> Comparison:
    """Add the cause of a difference, from two runs alone and, if there is one, another replicate run alone.

    `is_one_kind`: whether all workers have the same kind of processor.
    """
    first, second = runs
    names = comparison.outputs or sorted(first.digests)
    if second is None:
        return comparison
    are_equal = _same(first, second, names)
    if not are_equal and not is_one_kind:
        return replace(
            comparison,
            outcome="not comparable",
            outputs=(),
            reason="workers have processors of several kinds",
        )
    is_reused = row.values["runner_task"] is not None and row.values["runner_task"] > 1
    return replace(
        comparison,
        cause=("order" if is_reused else "outside") if are_equal else "seed",
        equal_replicates=bool(are_equal and names and replicate and _same(first, replicate, names)),
    )


def _same(first: LoneResult, second: LoneResult, names: Sequence[str]) -> bool:
    return (first.status, first.reason) == (second.status, second.reason) and all(
        first.digests.get(name) == second.digests.get(name) for name in names
    )
