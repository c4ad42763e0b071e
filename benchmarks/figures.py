"""How the benchmarks print: a median with its quartiles, and a figure with its bound and the verdict."""

from collections.abc import Sequence
from statistics import median, quantiles


def row(name: str, values: Sequence[float], unit: str, digits: int = 0) -> None:
    """A line: what, median, lower and upper quartile."""
    low, _, high = quantiles(values, method="inclusive")
    middle = f"{median(values):>11,.{digits}f} {unit}"
    print(f"  {name:<34}{middle}   {low:,.{digits}f} to {high:,.{digits}f}  ({len(values)})")


def holds(name: str, value: float, bound: float, unit: str = "", *, at_least: bool = False) -> bool:
    """Print a figure and its bound; whether it is kept."""
    kept = value >= bound if at_least else value <= bound
    words = f"{'at least' if at_least else 'at most'} {bound:g}{unit}"
    print(f"  {name:<34}{value:>11,.2f}{unit or ' times'}   {words}: {'met' if kept else 'MISSED'}")
    return kept
