"""The end of the pair on this host, when its document says Stopped, and later Removed. Pure.

Stopped: Heartbeat and the guardian end, the service with them, in the resource script's own order; the mirror stays up.
Removed: the mirror comes down too, and what the agent installed goes, last of all what brings the pieces up at boot, so
that an agent which dies on the way finds what there is left to do. Never touched: the disk (metadata, file system,
LUNs), the host record, which makes the disk ours, and the bonds, over which the host itself may be reached.
"""

from __future__ import annotations

from typing import Final

from storagepair_node_agent import hostfiles, record
from storagepair_node_agent.actions import Action, Outcome, RemoveFile, Run, Step, Verdict, WriteFile
from storagepair_node_agent.hostfiles import GUARDIAN_UNIT, HEARTBEAT_UNIT, PORT_UNIT, TGT_UNIT
from storagepair_node_agent.reasons import Reason
from storagepair_node_agent.snapshot import (
    Desired,
    DrbdFacts,
    FilesystemFacts,
    HeartbeatFacts,
    HostSnapshot,
    ServiceFacts,
)
from storagepair_node_agent.subsystems import drbd_files, filesystem

CONDITION = "Teardown"
STOPPED: Final = "Stopped"
REMOVED: Final = "Removed"
INTENT = f"{hostfiles.RUN}/intent"  # why the resource script releases the service; it reads and moves it
_STOP_SECONDS = 180
_GONE = ("dead", "")  # cl_status' words for a peer whose Heartbeat does not run


def asked(desired: Desired) -> bool:
    """Whether the document ends the pair here."""
    return desired.spec.service in (STOPPED, REMOVED)


def plan(desired: Desired, snapshot: HostSnapshot) -> Outcome:
    """One step after the other, each on top of what was seen to be done."""
    heart, service, drbd, files = snapshot.heartbeat, snapshot.service, snapshot.drbd, snapshot.filesystem
    known = record.known(snapshot)
    if heart is None or service is None or drbd is None or files is None or known is None:
        return Outcome(Verdict(False, "Unobserved", f"{desired.node} could not be examined; see the agent's log."))
    if nothing_left(heart, service, drbd):
        return Outcome(Verdict(True, "Removed", f"{desired.node} has nothing of the pair but its data."))
    if refusal := _refusal(desired, snapshot, known):
        return Outcome(refusal)
    outcome = _stop(desired, heart, service, drbd, files)
    if outcome is None and desired.spec.service == REMOVED:
        outcome = _remove(desired, heart, service, drbd, files)
    if outcome is None:
        text = f"The service and Heartbeat are stopped on {desired.node}; the mirror stays up until both hosts are."
        return Outcome(Verdict(True, "Stopped", text))
    return outcome


def nothing_left(heart: HeartbeatFacts, service: ServiceFacts, drbd: DrbdFacts) -> bool:
    """Whether this host has nothing that a teardown takes away."""
    mirror = (drbd.up and not drbd.minor_holder) or drbd.config is not None or drbd.unit is not None
    return not (_ours(heart) or service.port_table or service.started or mirror)


def _refusal(desired: Desired, snapshot: HostSnapshot, known: record.HostRecord) -> Verdict | None:
    """A document that ends another pair than the one on record here: an old one, or another cluster's."""
    node, reference = desired.node, desired.spec.pair_ref
    uname = snapshot.preflight.uname if snapshot.preflight is not None else ""
    if node not in {host.name for host in desired.spec.replication.hosts} or uname != node:
        return Verdict(False, "WrongNode", f"This teardown is not for {uname}. Nothing is changed.")
    pair = f"{reference.namespace}/{reference.name}"
    if (known.pair, known.uid) == (pair, reference.uid) or not (known.pair or _set_up(snapshot)):
        return None
    text = (
        f"{node} belongs to StoragePair {known.pair or 'unknown'} with the UID {known.uid or 'unknown'}, its document "
        f"ends {pair} with the UID {reference.uid}. Nothing is changed. Let the pair go by the annotation "
        "storagepair.dev/abandon, and delete the StoragePair that the host belongs to"
    )
    return Verdict(False, "OtherPair", text)


def _set_up(snapshot: HostSnapshot) -> bool:
    """Whether a service or a mirror was set up here, which never happens without a record."""
    heart, drbd = snapshot.heartbeat, snapshot.drbd
    return bool(heart is not None and _ours(heart)) or bool(drbd is not None and (drbd.up or drbd.config))


# ---------------------------------------------------------------------------- Stopped


def _stop(
    desired: Desired, heart: HeartbeatFacts, service: ServiceFacts, drbd: DrbdFacts, files: FilesystemFacts
) -> Outcome | None:
    """None once nothing serves here and nothing could take over."""
    node, running = desired.node, heart.running and _heartbeat_is_ours(heart)
    mounted = files.mounted_at == desired.spec.filesystem.mount_path
    holds = service.started or (drbd.role == "Primary" and (running or mounted))
    if service.transition:
        return _waiting("Transition", f"The service is being started or stopped on {node}.")
    if holds and running and heart.peer not in _GONE:
        text = f"{node} serves, and Heartbeat on {desired.peer} would take over: that one is stopped first."
        return _waiting("PeerRuns", text)
    units = [unit for unit in (GUARDIAN_UNIT, HEARTBEAT_UNIT) if unit in heart.units and _installed(heart, unit)]
    guarded = heart.guardian and _installed(heart, GUARDIAN_UNIT)
    if units or running or guarded or (heart.starting and _installed(heart, HEARTBEAT_UNIT)):
        return _do(_stop_action(heart, units, holds=holds), f"Heartbeat is being stopped on {node}.")
    if holds and _installed(heart, HEARTBEAT_UNIT):
        release = Run((hostfiles.RESOURCE_SCRIPT, "stop"), timeout_seconds=_STOP_SECONDS)
        action = Action("teardown.release", "release what Heartbeat has left behind", (_intent(), release))
        return _do(action, f"The service is being stopped on {node}.")
    return None


def _stop_action(heart: HeartbeatFacts, units: list[str], *, holds: bool) -> Action:
    """Disabled first: a boot in between must not bring back what is being stopped."""
    steps: list[Step] = [Run(("systemctl", "disable", *units), timeout_seconds=60)] if units else []
    if _installed(heart, GUARDIAN_UNIT):
        # under the service's lock: a takeover that it carries out must not die with it
        stop = ("flock", "-w", "90", hostfiles.LOCK, "systemctl", "stop", GUARDIAN_UNIT)
        steps.append(Run(stop, timeout_seconds=150))
    if _installed(heart, HEARTBEAT_UNIT) and _heartbeat_is_ours(heart):
        steps += [_intent()] if holds else []
        steps.append(Run(("systemctl", "stop", HEARTBEAT_UNIT), timeout_seconds=_STOP_SECONDS))
    return Action("teardown.stop", "stop the guardian and Heartbeat, and the service with it, for good", tuple(steps))


def _intent() -> Step:
    """The cause for the resource script: with this one it leaves no tale of a move to the next start."""
    return WriteFile(INTENT, "Teardown - 0\n", 0o600)


# ---------------------------------------------------------------------------- Removed


def _remove(
    desired: Desired, heart: HeartbeatFacts, service: ServiceFacts, drbd: DrbdFacts, files: FilesystemFacts
) -> Outcome | None:
    """None once nothing of ours is left that is to go."""
    node = desired.node
    if left := filesystem.let_go(drbd, files):  # of a preparation that was not finished
        return Outcome(_removing(node), left)
    if drbd.role == "Primary":
        where = f" (mounted at {files.mounted_at})" if files.mounted_at else ""
        return Outcome(
            Verdict(
                False, "StillHeld", f"{drbd_files.DEVICE} on {node} is still Primary{where}: see who uses it there."
            )
        )
    if (TGT_UNIT in heart.units or service.tgtd_running) and _installed(heart, TGT_UNIT) and not service.targets:
        stop = Run(("systemctl", "disable", "--now", TGT_UNIT), timeout_seconds=60)
        return _do(Action("teardown.stop-tgt", "stop tgtd, which serves nothing any more", (stop,)), "", node)
    if not drbd.minor_holder and (drbd.up or drbd.unit is not None or drbd.config is not None):
        return _do(_mirror_down(drbd), "", node)
    if _ours(heart) or service.port_table:
        return _do(_remove_files(heart), "", node)
    return None


def _mirror_down(drbd: DrbdFacts) -> Action:
    """The resource, then its files. The metadata on the disk stays."""
    name = "teardown.mirror-down"
    if drbd.unit_enabled:
        stop = Run(("systemctl", "disable", "--now", drbd_files.UNIT), timeout_seconds=90)
        return Action(name, f"stop {drbd_files.UNIT}, which takes the mirror down", (stop,))
    if drbd.up and drbd.config is not None:  # brought up by somebody else
        down = Run(("drbdadm", "down", drbd_files.RESOURCE), timeout_seconds=60)
        return Action(name, f"take {drbd_files.RESOURCE} down", (down,))
    files = (RemoveFile(drbd_files.UNIT_FILE), RemoveFile(drbd_files.CONFIG))
    return Action("teardown.remove-mirror-files", "remove the mirror's unit and configuration", (*files, _reload()))


def _remove_files(heart: HeartbeatFacts) -> Action:
    """Everything of the service that lies on the host. The bonds' unit and its script stay."""
    paths = sorted(_ours(heart), key=lambda path: (path.startswith(hostfiles.LIBRARY), path))
    steps: list[Step] = []
    if PORT_UNIT in heart.units:
        steps.append(Run(("systemctl", "disable", "--now", PORT_UNIT), timeout_seconds=60))
    # made first, so that this succeeds where it is gone
    steps.append(Run(("nft", "add table inet storagepair; delete table inet storagepair")))
    steps += [RemoveFile(path) for path in paths]
    steps += [RemoveFile(INTENT), _reload()]
    return Action("teardown.remove-files", "remove the service's files, units and firewall table", tuple(steps))


def _ours(heart: HeartbeatFacts) -> tuple[str, ...]:
    """The files of the service that are there and were made by us."""
    found = [path for path in heart.files if path not in heart.foreign]
    return (*found, hostfiles.AUTHKEYS) if heart.authkeys == "Present" else tuple(found)


def _heartbeat_is_ours(heart: HeartbeatFacts) -> bool:
    return hostfiles.HA_CF in _ours(heart)


def _installed(heart: HeartbeatFacts, unit: str) -> bool:
    """Whether we have set the unit up: what a distribution enables by itself is not ours to stop."""
    files = {
        GUARDIAN_UNIT: hostfiles.GUARDIAN_UNIT_FILE,
        HEARTBEAT_UNIT: hostfiles.HEARTBEAT_DROP_IN,
        TGT_UNIT: hostfiles.TGT_DROP_IN,
    }
    return files[unit] in heart.files


def _reload() -> Run:
    return Run(("systemctl", "daemon-reload"), timeout_seconds=60)


def _removing(node: str) -> Verdict:
    return Verdict(False, "Removing", f"What storagepair installed is being removed from {node}.", waiting=True)


def _do(action: Action, message: str, node: str = "") -> Outcome:
    verdict = _removing(node) if node else Verdict(False, "Stopping", message, waiting=True)
    return Outcome(verdict, (action,))


def _waiting(reason: Reason, message: str) -> Outcome:
    return Outcome(Verdict(False, reason, message, waiting=True))
