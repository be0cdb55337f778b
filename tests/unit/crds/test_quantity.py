"""Quantities are exact, over the whole range, and nothing else is taken for one."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_crds.quantity import QuantityError, parse_quantity

FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18} | {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}
suffixes = st.sampled_from(sorted(FACTORS))


@given(st.integers(min_value=0, max_value=2**63 - 1), suffixes)
def test_whole_numbers_are_exact(number: int, suffix: str) -> None:
    value = number * FACTORS[suffix]
    if value < 2**63:
        assert parse_quantity(f"{number}{suffix}") == value
    else:
        with pytest.raises(QuantityError, match="64 bits"):
            parse_quantity(f"{number}{suffix}")


@given(st.decimals(min_value=0, max_value=10**6, places=3), suffixes)
def test_decimals_are_exact_or_refused(number: Decimal, suffix: str) -> None:
    value = int(number * 1000) * FACTORS[suffix]
    text = f"{number:f}{suffix}"
    if value % 1000 == 0 and value // 1000 < 2**63:
        assert parse_quantity(text) == value // 1000
    else:
        with pytest.raises(QuantityError):
            parse_quantity(text)


@given(st.integers(min_value=0, max_value=999), st.integers(min_value=0, max_value=15), st.sampled_from("eE"))
def test_exponents(number: int, exponent: int, letter: str) -> None:
    assert parse_quantity(f"{number}{letter}{exponent}") == number * 10**exponent


@given(st.integers(min_value=0, max_value=2**62), suffixes)
def test_the_sign(number: int, suffix: str) -> None:
    if number * FACTORS[suffix] < 2**63:
        assert parse_quantity(f"-{number}{suffix}") == -parse_quantity(f"+{number}{suffix}")


@given(st.text(max_size=80))
def test_any_text_is_a_quantity_or_a_quantity_error(text: str) -> None:
    with contextlib.suppress(QuantityError):
        assert isinstance(parse_quantity(text), int)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1000m", 1), ("3000000u", 3), ("2000000000n", 2), ("1E", 10**18), ("1E3", 1000), (".5k", 500), ("5.", 5)],
)
def test_rare_forms(text: str, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "+",
        "Gi",
        "1 Gi",
        " 1",
        "1\n",
        "1gi",
        "1KI",
        "0x10",
        "1_000",
        "٣",
        "1e",
        "1e1.5",
        "1Gi5",
        "--1",
        "1" * 99,
    ],
)
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(QuantityError, match="is not a quantity"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["1.5", "1m", "0.1Ki", "1e-1", "1n"])
def test_a_fraction_is_refused_not_rounded(text: str) -> None:
    with pytest.raises(QuantityError, match="whole number"):
        parse_quantity(text)
