"""/proc/drbd of the in-kernel DRBD 8.4, the one place that tells our minor's state without a fork. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from storagepair_node_agent.subsystems.drbd_files import MINOR

_STATE = re.compile(
    rf"^\s*{MINOR}: cs:(?P<connection>\S+) ro:(?P<role>\w+)/(?P<peer_role>\w+) ds:(?P<disk>\w+)/(?P<peer_disk>\w+)"
    r"(?: +\w)? +(?P<flags>\S+)",  # a blank stands for the protocol of a resource without a connection (StandAlone)
    re.MULTILINE,
)
_CONFIGURED = re.compile(rf"^\s*{MINOR}: cs:(?!Unconfigured\b)", re.MULTILINE)
_NEXT_MINOR = re.compile(r"^\s*\d+: cs:", re.MULTILINE)
_SYNCED = re.compile(r"sync'ed:\s*(\d+)")


class Unreadable(ValueError):
    """Our minor has a line that can't be understood: its state is not known, which is not that it isn't up."""


@dataclass(frozen=True)
class State:
    """Our minor, in DRBD's words. `suspended`: I/O is held back, so whoever reads the device hangs."""

    connection: str
    role: str
    peer_role: str
    disk_state: str
    peer_disk_state: str
    suspended: bool
    synced_percent: int  # 100 when no resync runs


def parse(text: str) -> State | None:
    """Our minor's state; None when it isn't configured ("cs:Unconfigured", or no line at all). Raises `Unreadable`.

    The flags' first letter is `s` while I/O is suspended (drbd_proc.c, drbd_seq_show).
    """
    line = _STATE.search(text)
    if line is None:
        if strange := _CONFIGURED.search(text):
            raise Unreadable(f"/proc/drbd: {text[strange.start() :].splitlines()[0].strip()!r} is not understood")
        return None
    following = text[line.end() :]
    if end := _NEXT_MINOR.search(following):
        following = following[: end.start()]
    synced = _SYNCED.search(following)
    return State(
        connection=line["connection"],
        role=line["role"],
        peer_role=line["peer_role"],
        disk_state=line["disk"],
        peer_disk_state=line["peer_disk"],
        suspended=line["flags"].startswith("s"),
        synced_percent=int(synced[1]) if synced else 100,
    )
