"""Kubernetes quantities as exact integers ("9Gi" -> 9663676416), without the Kubernetes client and without floats."""

from __future__ import annotations

import re
from fractions import Fraction

# The forms that k8s.io/apimachinery's resource.Quantity reads: a decimal number, then a binary suffix, a decimal suffix
# or a decimal exponent. "1E" is an exa, "1E3" an exponent.
_FORM = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?"
    r"(?:(?P<suffix>Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)|[eE](?P<exponent>[+-]?[0-9]{1,3}))?",
    re.ASCII,
)
_BINARY = {f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL_SUFFIXES = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_DECIMAL = {suffix: Fraction(1000) ** power for power, suffix in enumerate(_DECIMAL_SUFFIXES, start=-3)}
_FACTOR = _BINARY | _DECIMAL
_INT64 = 2**63
_LONGEST = 64


class QuantityError(ValueError):
    """The text is no quantity, or one that is not a whole number within 64 bits."""


def exact_quantity(text: str) -> Fraction:
    """The exact number that a quantity stands for. Raises `QuantityError` for what is no quantity.

    >>> exact_quantity("1500m"), exact_quantity("0.5Ki")
    (Fraction(3, 2), Fraction(512, 1))
    """
    match = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or not (match["whole"] or match["part"]):
        raise QuantityError(f"{text[:_LONGEST]!r} is not a quantity such as 9Gi or 500Mi")
    part = match["part"] or ""
    number = Fraction(int(f"{match['whole']}{part}"), 10 ** len(part))
    value = number * (Fraction(10) ** int(match["exponent"]) if match["exponent"] else _FACTOR[match["suffix"] or ""])
    return -value if match["sign"] == "-" else value


def parse_quantity(text: str) -> int:
    """The exact whole number that a quantity stands for.

    Raises `QuantityError` for what is no quantity, no whole number ("1.5"; the API server's own reader would round up)
    or out of the range of a signed 64 bit integer.

    >>> parse_quantity("9Gi"), parse_quantity("1.5Ki"), parse_quantity("2e3"), parse_quantity("1000m")
    (9663676416, 1536, 2000, 1)
    """
    value = exact_quantity(text)
    if value.denominator != 1:
        raise QuantityError(f"{text!r} is not a whole number")
    if not -_INT64 <= value.numerator < _INT64:
        raise QuantityError(f"{text!r} does not fit into 64 bits")
    return value.numerator
