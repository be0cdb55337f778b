"""Moments of a failover, read from what the machines logged. Pure: text in, wall-clock seconds out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

_ADDRESS = re.compile(r"\[(?P<at>[0-9T:.-]+)\]\s*(?P<gone>Deleted )?.*?\binet (?P<address>[0-9.]+)/")
_JOURNAL = re.compile(r"(?P<at>\d{9,}\.\d+) (?P<rest>.*)")


def address_up(monitor: str, address: str, since: float) -> float | None:
    """When `address` was first put on an interface after `since`, in the output of `ip -ts monitor address`."""
    for line in monitor.splitlines():
        found = _ADDRESS.match(line)
        if found and not found["gone"] and found["address"] == address:
            at = datetime.fromisoformat(found["at"]).replace(tzinfo=UTC).timestamp()
            if at >= since:
                return at
    return None


def first(journals: Iterable[str], pattern: str, since: float) -> float | None:
    """When the first line that has `pattern` (a regular expression) was logged after `since`.

    `journals` are outputs of `journalctl -o short-unix`, one a machine.
    """
    times = [
        float(found["at"])
        for journal in journals
        for line in journal.splitlines()
        if (found := _JOURNAL.match(line)) and re.search(pattern, found["rest"])
    ]
    return min((at for at in times if at >= since), default=None)


def moments(journals: Iterable[str], patterns: Mapping[str, str], since: float) -> dict[str, float]:
    """For each name the moment of the first line with its pattern; without those that no line has."""
    kept = tuple(journals)
    found = {name: first(kept, pattern, since) for name, pattern in patterns.items()}
    return {name: at for name, at in found.items() if at is not None}
