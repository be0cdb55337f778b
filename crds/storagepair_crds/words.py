"""The shape of a vocabulary: what a reason in a condition or an event means, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

NOTHING = "Nothing."
"""What to do about a reason that asks nothing of anybody."""


class Word(NamedTuple):
    """One reason for people. The reference (docs/reference) is made of it."""

    meaning: str
    remedy: str = ""
