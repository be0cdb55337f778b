"""Moments in documents: RFC 3339, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def parse(text: str) -> datetime:
    """A moment of a document; long ago when it is missing or none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:  # at the end of the calendar, or at its beginning
        return (datetime.max if moment.year > 1 else datetime.min).replace(tzinfo=UTC)


def micro(moment: datetime) -> str:
    """With microseconds, as events have it.

    >>> micro(datetime(2026, 1, 31, tzinfo=UTC))
    '2026-01-31T00:00:00.000000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(moment: datetime) -> str:
    """In whole seconds, as conditions have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
