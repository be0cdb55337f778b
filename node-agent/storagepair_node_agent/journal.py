"""The failover journal of the host: lines that the resource script appended, made into incidents.

A line is `1 INCIDENT BOOT MONOTONIC WALL VERB PHASE [KEY=VALUE...]` (hundredths of a second since boot; microseconds
since 1970). A power cut may have torn any line: what does not parse is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from storagepair_crds.views import Incident, Phase

from storagepair_node_agent.actions import Action, WriteFile
from storagepair_node_agent.host import Host
from storagepair_node_agent.hostfiles import STATE

JOURNAL = f"{STATE}/journal.log"
DELIVERED = f"{STATE}/delivered"
SETTLE_SECONDS = 60  # so long may the script look for the cause after the service is up

_LINE = re.compile(
    r"1 (?P<incident>\d+-\S+) (?P<boot>\S+) (?P<mono>\d{1,15}) (?P<wall>\d{1,17})"
    r" (?P<verb>start|stop) (?P<phase>[a-z-]+)(?P<facts>( \S+)*)"
)
_NUMBER = re.compile(r"[0-9]{1,17}")
_OWN_PHASES = ("begin", "promoted", "mounted", "targets", "vip", "open")


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    incident: str
    boot: str
    mono: int
    wall: int
    verb: str
    phase: str
    facts: dict[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()


def parse(text: str) -> tuple[Entry, ...]:
    """The journal's whole and readable lines, in their order. Never raises."""
    found = []
    for line in text.split("\n")[:-1]:  # without a line feed at its end the last line may be torn
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        words = tuple(match["facts"].split())
        facts = dict(word.split("=", 1) for word in words if "=" in word)
        found.append(
            Entry(
                match["incident"],
                match["boot"],
                int(match["mono"]),
                int(match["wall"]),
                match["verb"],
                match["phase"],
                facts,
                words,
            )
        )
    return tuple(found)


def incidents(text: str, now_seconds: float) -> tuple[Incident, ...]:
    """The moves of the service to this host: completed starts on it after the other node was active."""
    return tuple(incident for run in _starts(parse(text)) if (incident := _incident(run, now_seconds)) is not None)


def read(host: Host, now_seconds: float) -> tuple[Incident, ...]:
    """All incidents that the host's journal still knows, oldest first."""
    return incidents(_text(host), now_seconds)


def undelivered(host: Host, delivered: Iterable[str], now_seconds: float) -> tuple[Incident, ...]:
    """What the status shall tell: incidents that neither the operator nor the host's memory knows as recorded."""
    known = {*delivered, *_remembered(host)}
    return tuple(incident for incident in read(host, now_seconds) if incident.id not in known)


def remember(host: Host, delivered: Iterable[str]) -> tuple[Action, ...]:
    """Note what the operator has recorded: its list is bounded, and what drops out of it must not come up again."""
    held = {entry.incident for entry in parse(_text(host))}
    before = _remembered(host)
    after = {*delivered, *before} & held
    if after <= before:
        return ()
    write = WriteFile(DELIVERED, "".join(f"{name}\n" for name in sorted(after)))
    return (Action("journal.remember-delivered", "note which incidents the operator has recorded", (write,)),)


def _text(host: Host) -> str:
    return (host.read(f"{JOURNAL}.1") or "") + (host.read(JOURNAL) or "")


def _remembered(host: Host) -> set[str]:
    return set((host.read(DELIVERED) or "").split())


def _starts(entries: tuple[Entry, ...]) -> Iterator[tuple[Entry, ...]]:
    """The entries of each start. Its last ones are written in the background and may lie among those of a stop."""
    starts = sorted((entry for entry in entries if entry.verb == "start"), key=lambda entry: entry.incident)
    for _, run in groupby(starts, key=lambda entry: (entry.incident, entry.boot)):
        yield tuple(run)


def _incident(run: tuple[Entry, ...], now_seconds: float) -> Incident | None:
    """The move that a start was; None when it was none, failed, or its cause is still being looked for."""
    phases = {entry.phase: entry for entry in run}
    first, past, end = phases.get("begin"), phases.get("past"), phases.get("end")
    if first is None or past is None or end is None or "ok" not in end.words:
        return None
    came_to = first.incident.split("-", 1)[1]
    came_from = past.facts.get("last", "-")
    if came_from in ("-", came_to):
        return None
    if "closed" not in phases and now_seconds * 1_000_000 - end.wall < SETTLE_SECONDS * 1_000_000:
        return None
    cause, started = _cause(first, past, phases.get("lost"))
    ended = max((phases.get("open") or end).wall, started)
    return Incident(
        id=first.incident,
        cause=cause,
        to=came_to,
        from_=came_from,
        start_time=_rfc3339(started),
        end_time=_rfc3339(ended),
        milliseconds=(ended - started) // 1000,
        phases=_phases(run, started, cause),
    )


def _cause(first: Entry, past: Entry, lost: Entry | None) -> tuple[str, int]:
    """Why, and since when (microseconds): never later than our beginning, whatever the other host's clock says."""
    released = _number(past, "released")
    if released is not None:
        return "Planned", min(released, first.wall)
    dead, deadtime = (_number(lost, "dead"), _number(lost, "deadtime")) if lost is not None else (None, None)
    if dead is not None and deadtime is not None:
        return "NodeLost", max(0, min((dead - deadtime) * 1_000_000, first.wall))
    return "Unknown", first.wall


def _number(entry: Entry, fact: str) -> int | None:
    """A fact's number; None when it has none (`-`, torn)."""
    text = entry.facts.get(fact, "")
    return int(text) if _NUMBER.fullmatch(text) else None


def _phases(run: tuple[Entry, ...], started: int, cause: str) -> tuple[Phase, ...]:
    """The steps of the move in milliseconds since its start: what the releasing node did, then what this one did."""
    at: list[tuple[int, str]] = [(started, "silent")] if cause == "Planned" else []
    at += [
        (done, entry.facts["phase"])
        for entry in run
        if entry.phase == "peer" and entry.facts.get("phase") and (done := _number(entry, "at")) is not None
    ]
    at += [(entry.wall, entry.phase) for entry in run if entry.phase in _OWN_PHASES]
    return tuple(Phase(name=name, milliseconds=max(0, (wall - started) // 1000)) for wall, name in at)


def _rfc3339(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
