"""The failover journal of the host: lines that the resource script appended, made into incidents.

A line is `1 INCIDENT BOOT MONOTONIC WALL VERB PHASE [KEY=VALUE...]` (hundredths of a second since boot; microseconds
since 1970). A power cut may have torn any line: what does not parse is passed over, and so is a fact that makes no
sense: one bad line must not keep the others from being told.

Of a start (WALL stands for microseconds since 1970):
    begin, promoted, mounted, targets, vip, open, end ok    its own steps
    past last=NODE released=WALL|-       who served before, and when its port fell silent, if it released the service
    cause name=CAUSE [request=NAMESPACE/NAME] [asked=WALL]  the word that the releasing node left
    lost dead=SECONDS deadtime=SECONDS   it was declared dead
    peer phase=NAME at=WALL              the releasing node's steps: asked, silent, vip-off, targets-off, unmounted
    answered last=WALL                   the last answer to an initiator that left the releasing node
    first-login at=WALL, resumed at=WALL the first login here, and the first answer after it
    closed                               nothing more is to come
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from storagepair_crds.views import Incident, Pause, Phase

from storagepair_node_agent.actions import Action, WriteFile
from storagepair_node_agent.host import Host
from storagepair_node_agent.hostfiles import STATE

JOURNAL = f"{STATE}/journal.log"
DELIVERED = f"{STATE}/delivered"
SETTLE_SECONDS = 180  # so long may the script look for the cause, and wait for initiators, after the service is up

_LINE = re.compile(
    r"1 (?P<incident>\d+-\S+) (?P<boot>\S+) (?P<mono>\d{1,15}) (?P<wall>\d{1,17})"
    r" (?P<verb>start|stop) (?P<phase>[a-z-]+)(?P<facts>( \S+)*)"
)
_NUMBER = re.compile(r"[0-9]{1,17}")
_REQUEST = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PHASE = re.compile(r"[a-z-]{1,63}")
_CAUSES = frozenset(
    ("Planned", "NodeLost", "ServiceNetworkLost", "HeartbeatStopped", "ResourceFailed", "OperatorError", "Unknown")
)
_PEER_PHASES = ("asked", "silent", "vip-off", "targets-off", "unmounted")
_OWN_PHASES = ("promoted", "mounted", "targets", "vip", "open", "first-login")


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
    cause, started = _cause(phases), _started(phases)
    ended = max((phases.get("open") or end).wall, started)
    word = phases.get("cause")
    request = word.facts.get("request", "") if word is not None else ""
    request = request if _REQUEST.fullmatch(request) else ""
    return Incident(
        id=first.incident,
        cause=cause,
        to=came_to,
        from_=came_from,
        start_time=_rfc3339(started),
        end_time=_rfc3339(ended),
        milliseconds=(ended - started) // 1000,
        request=request,
        message=_message(cause, came_from, request, phases.get("lost")),
        pause=_pause(phases),
        phases=_phases(run, started, clean=_number(past, "released") is not None),
    )


def _cause(phases: dict[str, Entry]) -> str:
    """The releasing node's own word, if it left one; else what can be told from how it went."""
    word = phases["cause"].facts.get("name", "") if "cause" in phases else ""
    if word in _CAUSES:
        return word
    if _number(phases["past"], "released") is not None:
        return "Planned"  # scripts before there was a word released on request only
    return "NodeLost" if _lost(phases.get("lost")) is not None else "Unknown"


def _started(phases: dict[str, Entry]) -> int:
    """Since when nobody served (microseconds): never later than our beginning, whatever the other host's clock says."""
    began = phases["begin"].wall
    released, lost = _number(phases["past"], "released"), _lost(phases.get("lost"))
    return min(began, next((moment for moment in (released, lost) if moment is not None), began))


def _lost(entry: Entry | None) -> int | None:
    """When a node was last heard of that was declared dead."""
    dead, deadtime = (_number(entry, "dead"), _number(entry, "deadtime")) if entry is not None else (None, None)
    return max(0, dead - deadtime) * 1_000_000 if dead is not None and deadtime is not None else None


def _message(cause: str, node: str, request: str, lost: Entry | None) -> str:
    """Why, in one sentence."""
    deadtime = _number(lost, "deadtime") if lost is not None else None
    silence = f" for {deadtime} s" if deadtime is not None else ""
    return {
        "Planned": f"Switchover {request} asked for it." if request else f"{node} was asked to release the service.",
        "NodeLost": f"Nothing was heard of {node}{silence}: it was declared dead.",
        "ServiceNetworkLost": f"{node} reached fewer of the ping addresses than its peer and released the service.",
        "HeartbeatStopped": f"Heartbeat ended on {node}, which released the service.",
        "ResourceFailed": f"A part of the service failed on {node}, which released it.",
        "OperatorError": f"A part of the service was stopped or taken away by hand on {node}.",
        "Unknown": f"Neither a word of {node} nor its death is known.",
    }[cause]


def _pause(phases: dict[str, Entry]) -> Pause | None:
    last = _number(phases["answered"], "last") if "answered" in phases else None
    first = _number(phases["resumed"], "at") if "resumed" in phases else None
    if last is None and first is None:
        return None
    return Pause(
        last_completed_time=_rfc3339(last) if last is not None else "",
        first_completed_time=_rfc3339(first) if first is not None else "",
        milliseconds=(first - last) // 1000 if last is not None and first is not None and first >= last else None,
    )


def _number(entry: Entry, fact: str) -> int | None:
    """A fact's number; None when it has none (`-`, torn)."""
    text = entry.facts.get(fact, "")
    return int(text) if _NUMBER.fullmatch(text) else None


def _phases(run: tuple[Entry, ...], started: int, *, clean: bool) -> tuple[Phase, ...]:
    """The steps of the move in milliseconds since its start: what the releasing node did, then what this one did."""
    at: dict[str, int] = {"silent": started} if clean else {}
    for entry in run:
        name, done = entry.facts.get("phase", ""), _number(entry, "at")
        if entry.phase == "peer" and _PHASE.fullmatch(name) and done is not None:
            at[name] = done
        elif entry.phase == "cause" and (asked := _number(entry, "asked")) is not None:
            at.setdefault("asked", asked)
        elif entry.phase == "first-login" and done is not None:
            at["first-login"] = done
        elif entry.phase in _OWN_PHASES:
            at[entry.phase] = entry.wall
    others = [name for name in at if name not in _PEER_PHASES and name not in _OWN_PHASES]  # of another version
    order = [name for name in (*_PEER_PHASES, *others, *_OWN_PHASES) if name in at]
    return tuple(Phase(name=name, milliseconds=_since(started, at[name], name)) for name in order)


def _since(started: int, moment: int, name: str) -> int:
    """Only the request may lie before the start; for the others it would be the clocks' difference."""
    passed = (moment - started) // 1000
    return passed if name == "asked" else max(0, passed)


def _rfc3339(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
