"""What tgtd has in it now: the output of `tgtadm --lld iscsi --op show --mode target`, read tolerantly. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from storagepair_node_agent.snapshot import LogicalUnit, TargetFacts

SHOW = ("tgtadm", "--lld", "iscsi", "--op", "show", "--mode", "target")

_TARGET = re.compile(r"Target (\d{1,10}): (\S+)")
_ENTRY = re.compile(r"(I_T nexus|LUN|Connection): (\d{1,20})")
_FIELD = re.compile(r"([A-Za-z][A-Za-z -]*): ?(.*)")
_SECTIONS = {
    "System information:": "system",
    "I_T nexus information:": "nexus",
    "LUN information:": "luns",
    "Account information:": "accounts",
    "ACL information:": "acls",
}


@dataclass
class _Reading:
    """The target whose lines are being read."""

    tid: int
    iqn: str
    section: str = ""
    acls: list[str] = field(default_factory=list)
    sessions: list[tuple[int, int, str, str]] = field(default_factory=list)
    units: list[dict[str, str]] = field(default_factory=list)
    session: int | None = None
    initiator: str = ""
    connection: int = 0

    def facts(self) -> TargetFacts:
        units = tuple(_unit(fields) for fields in self.units if fields["LUN"] != "0")
        return TargetFacts(
            tid=self.tid,
            iqn=self.iqn,
            luns={unit.number: unit.path for unit in units},
            acls=tuple(self.acls),
            sessions=tuple(self.sessions),
            units=units,
        )


def parse(text: str) -> tuple[TargetFacts, ...]:
    """tgtd's targets; lines that are not understood are passed over."""
    targets: list[_Reading] = []
    for line in text.splitlines():
        words = line.strip()
        head = _TARGET.fullmatch(words) if not line.startswith(" ") else None
        if head:
            targets.append(_Reading(int(head[1]), head[2]))
        elif targets and words in _SECTIONS:
            targets[-1].section = _SECTIONS[words]
        elif targets and words:
            _line(targets[-1], words)
    return tuple(target.facts() for target in targets)


def _line(target: _Reading, words: str) -> None:
    """A line below a section's heading."""
    if target.section == "acls":
        target.acls.append(words)
    elif target.section == "nexus":
        _session(target, words)
    elif target.section == "luns":
        entry = _ENTRY.fullmatch(words)
        if entry and entry[1] == "LUN":
            target.units.append({"LUN": entry[2]})
        elif target.units and (found := _FIELD.fullmatch(words)):
            target.units[-1].setdefault(found[1], found[2].strip())


def _session(target: _Reading, words: str) -> None:
    """A login: `I_T nexus: SID`, `Initiator: NAME alias: ALIAS`, then `Connection: CID` and `IP Address: ADDRESS`."""
    entry, found = _ENTRY.fullmatch(words), _FIELD.fullmatch(words)
    if entry and entry[1] == "I_T nexus":
        target.session, target.initiator, target.connection = int(entry[2]), "", 0
    elif entry and entry[1] == "Connection":
        target.connection = int(entry[2])
    elif found and found[1] == "Initiator":
        target.initiator = found[2].split(" ", 1)[0]
    elif found and found[1] in ("IP Address", "RDMA IP Address") and target.session is not None:
        target.sessions.append((target.session, target.connection, target.initiator, found[2].strip()))


def _unit(fields: dict[str, str]) -> LogicalUnit:
    path = fields.get("Backing store path", "")
    return LogicalUnit(
        number=int(fields["LUN"]),
        path="" if path == "None" else path,
        scsi_id=fields.get("SCSI ID", ""),
        serial=fields.get("SCSI SN", ""),
        flags=fields.get("Backing store flags", ""),
        online=fields.get("Online", "Yes") == "Yes",
    )
