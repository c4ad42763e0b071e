"""Quantities are exact, and what is none says what to write."""

from fractions import Fraction

import pytest

from mops_helm.values.quantity import BadQuantity, parse, text_of, to_bytes, to_cpus


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("1Gi", 2**30),
        ("1.5Gi", 3 * 2**29),
        ("14G", 14 * 10**9),
        ("1e3", 1000),
        ("2E3", 2000),
        ("1E", 10**18),
        (".5", 1),
        ("5.", 5),
        (4, 4),
        (1000000.0, 1000000),
        ("0.1Ki", 103),
        ("9007199254740993", 9007199254740993),
        ("16Ei", 2**64),
    ],
)
def test_bytes(written, count):
    assert to_bytes(written) == count


def test_cpus_are_exact():
    assert to_cpus("100m") * 10 == 1
    assert to_cpus(1.8) == Fraction(9, 5)
    assert parse("1n") == Fraction(1, 10**9)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("4GB", "4Gi (2^30 bytes) or 4G (10^9 bytes)"),
        ("4g", "4Gi (2^30 bytes) or 4G"),
        ("4K", "4Ki (2^10 bytes) or 4k"),
        ("4gib", "write 4Gi"),
        ("400m", "write 400Mi"),
        ("Gi", "the number is missing"),
        ("٤Gi", "write 4Gi"),
        ("1_000", "write 1000"),
        ("1,5Gi", "a point for decimals"),
        ("4 Gi", "write 4Gi"),
        ("", "expected a number"),
        ("1e999999999", "expected a number"),
        ("0x10", "expected a number"),
        ("-1Gi", "cannot be negative"),
        ("4parsec", "units are"),
        (True, "expected a number"),
    ],
)
def test_what_is_no_memory_says_what_to_write(written, instead):
    with pytest.raises(BadQuantity) as caught:
        to_bytes(written)
    assert instead in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("count", "text"), [(2**32, "4Gi"), (14 * 10**9, "14G"), (960 * 2**20, "960Mi"), (123, "123"), (0, "0")]
)
def test_text_is_the_shortest_exact_form(count, text):
    assert text_of(count) == text
    assert to_bytes(text) == count
