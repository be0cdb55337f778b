"""A drill: break something while the initiator writes, and verify every acknowledged write afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.guest import Guest
from lab.initiator import Initiator, WriterResult
from lab.pair import Pair
from lab.waiting import wait_for

# not `default`, which nobody can delete
NAMESPACE = "storage"
PORTAL = "10.10.25.136"
IQN = "iqn.2011-03.org.weithenn:iscsi.storage"
# before and after the fault, so that a gap has two ends
_WRITES_AROUND = 40
_RECOVERY_SECONDS = 180.0
# an emulated machine that has just booted, beside another one that may be booting too
_RESYNC_SECONDS = 400.0


@dataclass(frozen=True)
class Outcome:
    """What a drill showed: the pause as the writer saw it, and what became of its acknowledged writes."""

    gap_seconds: float
    result: WriterResult


def log_in(initiator: Initiator, lun: int = 1) -> str:
    """Discover, log in once, and return the LUN's device on the initiator."""
    if IQN not in initiator.sessions():
        wait_for(lambda: IQN in initiator.discover(PORTAL), "the target to be discovered", 60, interval=1)
        initiator.login(IQN, PORTAL)
    return initiator.device(IQN, lun)


def run(initiator: Initiator, fault: Callable[[], object], taker: Guest, *, name: str = "drill") -> Outcome:
    """Write, do `fault`, wait until `taker` serves and writes are acknowledged again, stop, verify all of them."""
    device = log_in(initiator)
    writer = initiator.start_writer(device, name=name)
    writer.wait_acked(_WRITES_AROUND)
    began = time.time()
    fault()
    wait_for(lambda: serves(taker), f"{taker.name} to serve", _RECOVERY_SECONDS, interval=0.3)
    # acknowledged from here on means: by the new active node
    writer.wait_acked(_WRITES_AROUND, timeout=_RECOVERY_SECONDS)
    result = writer.result()
    return Outcome(max((gap.seconds for gap in result.gaps if gap.end > began), default=0.0), result)


def serves(guest: Guest) -> bool:
    """Did the resource script on this machine complete a start? The host's own word, not Kubernetes'."""
    return guest.ssh(["cat", "/run/storagepair/state"], check=False).stdout.startswith("started")


def wait_mirrored(guest: Guest) -> None:
    """Wait until this machine has, as its DRBD says, a peer with the same data."""

    def whole() -> bool:
        return " ds:UpToDate/UpToDate " in guest.read("/proc/drbd")

    wait_for(whole, f"the mirror of {guest.name} to be whole again", _RESYNC_SECONDS, interval=0.5)


def journals(nodes: Iterable[Guest]) -> list[str]:
    """What each machine's resource script did with the service, by its own journal; "" where it never did anything."""
    return [node.ssh(["cat", "/var/lib/storagepair/journal.log"], check=False).stdout for node in nodes]


def other(pair: Pair, node: str) -> str:
    """The pair's other node."""
    names = [each["name"] for each in pair.get("storagepairs", pair.name)["spec"]["nodes"]]
    return str(next(name for name in names if name != node))
