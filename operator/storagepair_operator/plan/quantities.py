"""Kubernetes quantities."""

from __future__ import annotations

from decimal import Decimal

_FACTORS = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "": 1,
}


def quantity(text: str) -> int:
    """The whole number that a quantity says.

    >>> quantity("9Gi"), quantity("1.5k"), quantity("512")
    (9663676416, 1500, 512)
    """
    digits = text.rstrip("KMGTPEik")
    return int(Decimal(digits) * _FACTORS[text[len(digits) :]])
