"""One run: a fault under the verifying writer, and when it was felt."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from lab import drill
from lab.initiator import Initiator, WriterResult
from lab.lab import LabGuest
from lab.waiting import wait_for

from bench import failover_hosts as hosts
from bench import failover_logs as logs
from bench.failover_contender import Contender, Roles
from bench.failover_model import FIRST_WRITE, POWER_CUT, VIP, Run

# before and after the fault, so that a gap has two ends
_WRITES_AROUND = 40
_RECOVERY_SECONDS = 400.0
_MONITOR = "/run/bench-addresses"
Settings = Sequence[tuple[str, str]]


class RunError(Exception):
    """A run did not show what it is for."""


def measure(contender: Contender, scenario: str, settings: Settings = ()) -> Run:
    """Restore, write, fault, wait until the other node serves, stop writing, verify every acknowledged write.

    `settings` are the initiator's other than open-iscsi's defaults.
    """
    roles = contender.restore()
    initiator = contender.initiator
    device = log_in(initiator, settings)
    _watch_addresses(roles.taker)
    load = os.getloadavg()[0]
    writer = initiator.start_writer(device, name="bench")
    writer.wait_acked(_WRITES_AROUND)
    ahead = initiator.guest.clock_ahead()
    began = _strike(contender, scenario, roles)
    # the virtual IP is the last thing but one to come: what is acknowledged afterwards, the taker has acknowledged
    wait_for(lambda: hosts.has_address(roles.taker), f"{roles.taker.name} to serve", _RECOVERY_SECONDS, interval=1)
    writer.wait_acked(_WRITES_AROUND, timeout=_RECOVERY_SECONDS)
    result, moments = writer.result(), contender.moments(roles, began)
    up = logs.address_up(roles.taker.read(_MONITOR), hosts.ADDRESS, began)
    return _told(result, began, moments if up is None else {**moments, VIP: up}, ahead, load)


def log_in(initiator: Initiator, settings: Settings) -> str:
    """Discover, log in with these settings, and return the LUN's device."""
    wait_for(lambda: drill.IQN in initiator.discover(drill.PORTAL), "the target to be discovered", 60, interval=1)
    initiator.login(drill.IQN, drill.PORTAL, settings=settings)
    return initiator.device(drill.IQN, 1)


def _strike(contender: Contender, scenario: str, roles: Roles) -> float:
    """Do it; the wall-clock time at which it was done or asked for."""
    began = time.time()
    fault: Callable[[], object] = roles.active.power_cut
    if scenario != POWER_CUT:
        fault = lambda: contender.switch_over(roles)  # noqa: E731
    fault()
    return began


def _watch_addresses(guest: LabGuest) -> None:
    """Have the machine write down when an address comes or goes."""
    command = f"exec ip -ts monitor address > {_MONITOR}"
    guest.ssh(["systemd-run", "--quiet", "--collect", "--unit=bench-addresses", "sh", "-c", command])


def _told(result: WriterResult, began: float, moments: dict[str, float], ahead: float, load: float) -> Run:
    """`ahead`: the initiator's clock before this machine's, which the gaps are told by."""
    gaps = [gap for gap in result.gaps if gap.end - ahead > began]
    if not gaps:
        raise RunError(
            f"the writer felt no gap after {began:.1f}: the service did not move, or its log is not of this run "
            f"(its clock was {ahead:+.1f} s ahead; gaps: {result.gaps})"
        )
    gap = max(gaps, key=lambda each: each.seconds)
    moments = {**moments, FIRST_WRITE: gap.end - ahead}
    return Run(
        gapSeconds=gap.seconds,
        lastWrite=round(gap.start - ahead - began, 3),
        marks={name: round(at - began, 3) for name, at in moments.items()},
        acknowledged=result.acked,
        lost=result.lost,
        errors=result.errors,
        load=round(load, 2),
    )
