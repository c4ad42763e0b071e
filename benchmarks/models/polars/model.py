"""Households of polars: a data frame."""

import polars as pl


def simulate(r0, rng, households=200):
    sizes = rng.integers(1, 7, households)
    frame = pl.DataFrame({"size": sizes, "cases": rng.binomial(sizes, r0 / (1 + r0))})
    return frame.group_by("size").agg(pl.col("cases").mean(), pl.len().alias("households")).sort("size")
