"""Messages about replicates that are equal, and about those that contradict the study file.

Variation (replicates.py) -> a warning on the whole study, or notes on single sets and outputs
"""

from modelops_dask.store.output_names import show_name, show_names
from modelops_dask.store.replicates import SOME_SEEDS, Variation

_SHOWN = 3  # sets


def describe_warning(variation: Variation, deterministic: bool) -> str:
    """The problem with the variation of replicates; "" if there is none, or too few have ended.

    Args:
        variation: As far as it was compared.
        deterministic: Whether the study file declares its model deterministic.
    """
    varying = show_names(name for name, output in variation.outputs.items() if output.varies)
    if deterministic and varying:
        return (
            "Warning: the study file states deterministic: true, but replicates differ in "
            f"{varying}. Remove that line, or list outputs such as time stamps under `volatile`."
        )
    if deterministic or not variation.is_seed_unused:
        return ""
    n_sets = max(len(output.constant_sets) for output in variation.outputs.values())
    return (
        f"Warning: replicates are equal. Each of {n_sets:,} parameter sets has the same "
        f"{show_names(variation.outputs)} for all of its seeds, so randomness does not come from the seed. "
        "Draw from generators that are made from the seed passed to the wire function. If the model is not "
        "random, set deterministic: true in the study file."
    )


def describe_constant_outputs(variation: Variation, deterministic: bool) -> list[str]:
    """Notes on outputs that are equal in some sets, or in all, while others vary."""
    if deterministic or not any(output.varies for output in variation.outputs.values()):
        return []
    notes = []
    for name, output in variation.outputs.items():
        constant = sorted(n for n, n_seeds in output.constant_sets.items() if n_seeds >= SOME_SEEDS)
        if not constant:
            continue
        title = f"Output {show_name(name)} is the same for all seeds"
        if not output.varies:
            notes.append(f"{title} of a set, in every set; other outputs vary.")
            continue
        examples = ", ".join(map(str, constant[:_SHOWN])) + (", …" if len(constant) > _SHOWN else "")
        notes.append(
            f"{title} in {len(constant):,} of {output.n_sets:,} parameter "
            f"sets ({examples}). That is correct if, for instance, an epidemic always dies out."
        )
    return notes
