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


def ahead(name: str, ratios: Sequence[float]) -> bool:
    """Print what one side does more than another, round by round, at least 1 times; whether that is kept.

    A tie within the noise, the median within 3 % of 1 and a quartile above it, is kept, and said.
    """
    low, middle, high = quantiles(ratios, method="inclusive")
    tie = 0.97 <= middle < 1 <= high
    word = "tied" if tie else "met" if middle >= 1 else "MISSED"
    print(f"  {name:<44}{middle:>7,.2f} times   {low:,.2f} to {high:,.2f}, at least 1: {word}")
    return tie or middle >= 1
