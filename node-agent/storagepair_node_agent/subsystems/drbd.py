"""DRBD: the mirror. Resource `storagepair`, minor 0, internal metadata, protocol C, the in-kernel 8.4.

Two decisions here could destroy data, and both need a proof: metadata is made only on a provably empty disk, and the
first sync starts only where neither side has data. Everything else is written so that a crash at any point leaves a
state from which the next pass goes on.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace

import msgspec
from storagepair_crds import views

from storagepair_node_agent import record
from storagepair_node_agent.actions import Action, Outcome, RemoveFile, Run, Step, Verdict, WriteFile
from storagepair_node_agent.host import Host
from storagepair_node_agent.snapshot import Desired, DiskFacts, DrbdFacts, HostSnapshot
from storagepair_node_agent.subsystems import blockdevice, drbd_files, drbd_proc
from storagepair_node_agent.subsystems.drbd_files import CONFIG, MINOR, RESOURCE, UNIT, UNIT_CONTENT, UNIT_FILE

Metadata = views.ReplicationMetadata

_UUID_JUST_CREATED = 0x4  # include/linux/drbd.h
_WAS_PRIMARY = 0x1  # the lowest bit of a current UUID is a flag (drbd_uuid_compare masks it)
_WITH_DATA = ("UpToDate", "Consistent", "Outdated")
_ADJUST_SECONDS = 300


def observe(host: Host, desired: Desired | None) -> DrbdFacts:
    """No fork while the resource is up and its disk has data: /proc/drbd tells it all."""
    path = _own_disk(desired)
    proc = host.read("/proc/drbd")
    facts = DrbdFacts(
        disk=DiskFacts(path),
        metadata=Metadata.UNKNOWN,
        config=host.read(CONFIG),
        module_loaded=proc is not None,
        up=False,
        unit=host.read(UNIT_FILE),
        unit_enabled=host.present(f"/etc/systemd/system/multi-user.target.wants/{UNIT}"),
    )
    state = drbd_proc.parse(proc or "")
    if state is None:
        return _observe_disk(host, path, facts) if path else facts
    holder = _minor_holder(host)
    if holder not in ("", RESOURCE):
        return replace(facts, minor_holder=holder)
    facts = _with_state(facts, state)
    size = blockdevice.size_of(host, path) if path else None
    return replace(
        facts,
        disk=DiskFacts(path, present=size is not None, size_bytes=size or 0, signatures=("drbd",)),
        metadata=_live_metadata(host, facts.disk_state),
        drift=_adjustable(facts) and _drifted(host, facts),
    )


def _with_state(facts: DrbdFacts, state: drbd_proc.State) -> DrbdFacts:
    return replace(
        facts,
        up=True,
        connection=state.connection,
        role=state.role,
        peer_role=state.peer_role,
        disk_state=state.disk_state,
        peer_disk_state=state.peer_disk_state,
        suspended=state.suspended,
        synced_percent=state.synced_percent,
    )


def plan(desired: Desired, snapshot: HostSnapshot) -> Outcome:
    """From a bare disk to a connected, synchronised mirror; then only what drifted."""
    facts, known = snapshot.drbd, record.known(snapshot)
    if facts is None or known is None:
        text = f"DRBD and the disk of {desired.node} could not be examined; see the agent's log."
        return Outcome(Verdict(False, "Unobserved", text))
    refusal = _refusal(desired, facts)
    if refusal:
        return Outcome(refusal)
    noted = _note_pair(desired, known)
    if not facts.up and not _address_present(desired, snapshot):
        address = _own_host(desired).address
        text = f"The replication address {address} is not on {desired.node} yet."
        return Outcome(Verdict(False, "WaitingForNetwork", text, waiting=True), noted)
    actions = [*noted, *_preparations(desired, facts, known), *_first_sync(desired, facts)]
    if actions:
        text = f"To be done on {desired.node}: {'; '.join(action.summary for action in actions)}."
        return Outcome(Verdict(False, "Configuring", text, waiting=True), tuple(actions))
    return Outcome(_verdict(desired, facts))


def _note_pair(desired: Desired, known: record.HostRecord) -> tuple[Action, ...]:
    """The UID changes when a namespace is restored. A teardown is carried out for the object that is on record only."""
    uid = desired.spec.pair_ref.uid
    if not known.pair or known.uid == uid:
        return ()
    noted = record.written(msgspec.structs.replace(known, uid=uid))
    return (Action("drbd.note-pair", f"note that StoragePair {known.pair} is the object {uid} now", (noted,)),)


def _refusal(desired: Desired, facts: DrbdFacts) -> Verdict | None:
    """Where nothing may be done at all."""
    node, disk = desired.node, facts.disk
    field = f"spec.replication.hosts[{node}].disk"
    if facts.minor_holder:
        return Verdict(
            False,
            "MinorTaken",
            f"{drbd_files.DEVICE} on {node} belongs to the DRBD resource {facts.minor_holder}; storagepair needs minor "
            f"{MINOR}. Give the other resource another minor, or take another host.",
        )
    if facts.metadata == Metadata.FOREIGN:
        found = ", ".join([*disk.signatures, *disk.in_use_by]) or "data without a known signature"
        return Verdict(
            False,
            "ForeignData",
            f"{field}: {disk.path} on {node} is not empty ({found}) and was not set up by storagepair here. It is not "
            f"touched. Name another disk, or, if its data may go, `wipefs --all {disk.path}` and `blkdiscard "
            f"--zeroout {disk.path}` on {node}.",
        )
    if facts.metadata == Metadata.UNKNOWN and not facts.up:
        return Verdict(
            False, "DiskUnknown", f"{field}: what is on {disk.path} of {node} is not known; nothing is done."
        )
    return None


def _preparations(desired: Desired, facts: DrbdFacts, known: record.HostRecord) -> list[Action]:
    """Configuration, metadata, unit, up; all that a passive mirror needs."""
    actions: list[Action] = []
    configure = _configure(desired, facts)
    if configure:
        actions.append(configure)
    if facts.metadata == Metadata.EMPTY:
        actions.append(_create_metadata(desired, facts))
    unit: list[Step] = [] if facts.unit == UNIT_CONTENT else [WriteFile(UNIT_FILE, UNIT_CONTENT)]
    if unit and facts.unit is not None:
        unit.append(Run(("systemctl", "daemon-reload"), timeout_seconds=60))  # systemd finds a new unit by itself
    if not facts.unit_enabled:
        unit.append(Run(("systemctl", "--no-reload", "enable", UNIT)))
    if unit:
        actions.append(Action("drbd.install-unit", f"bring {RESOURCE} up at every boot", tuple(unit)))
    if not facts.up:
        # through the unit, so that a shutdown of the host takes the resource down in order
        up = Run(("systemctl", "restart", UNIT), timeout_seconds=90)
        actions.append(Action("drbd.up", f"bring the resource {RESOURCE} up", (up,)))
    elif facts.drift and not configure:
        actions.append(Action("drbd.adjust", "make the running settings those of the configuration", (_adjust(),)))
    return actions


def _configure(desired: Desired, facts: DrbdFacts) -> Action | None:
    content = drbd_files.resource(desired.spec.replication)
    if facts.config == content:
        return None
    # one bad file makes drbdadm refuse every resource of the host: check at once, take it back if it clashes
    undo: Step = RemoveFile(CONFIG) if facts.config is None else WriteFile(CONFIG, facts.config)
    steps: list[Step] = [WriteFile(CONFIG, content), Run(("drbdadm", "sh-nop"))]
    if _adjustable(facts):
        steps.append(_adjust())
    return Action("drbd.configure", f"write the resource {RESOURCE}", tuple(steps), rollback=(undo,))


def _create_metadata(desired: Desired, facts: DrbdFacts) -> Action:
    """Proof that nothing is destroyed: facts.metadata is EMPTY only where libblkid finds no signature of any kind,
    nobody uses the disk (partitions, holders, mounts, swap, an exclusive open), and both ends and the samples between
    hold only zeros (`classify`). And without `--force` drbdmeta looks for itself: it refuses a disk with a file
    system, and asks before it overwrites metadata, which on an empty stdin is a no ("stdin not a TTY, not waiting
    for confirmation", drbd-utils 9.22).

    The record goes first: after a crash between the two the disk is still empty, and the next pass comes here again.
    """
    spec = desired.spec
    pair = f"{spec.pair_ref.namespace}/{spec.pair_ref.name}"
    ours = record.HostRecord(pair=pair, disk=facts.disk.path, uid=spec.pair_ref.uid)
    return Action(
        "drbd.create-metadata",
        f"make DRBD metadata on the empty disk {facts.disk.path}",
        (record.written(ours), Run(("drbdadm", "create-md", RESOURCE), timeout_seconds=120)),
    )


def _first_sync(desired: Desired, facts: DrbdFacts) -> list[Action]:
    """Proof that neither side has data: the two are Connected, both Inconsistent, and our current UUID says "just
    created". Had the peer a data generation, its UUID would not be that, and the handshake (drbd_receiver.c,
    drbd_uuid_compare rules 10, 20, 30; drbd_sync_handshake) would have ended otherwise: an UpToDate peer makes us
    SyncTarget, an Inconsistent one refuses ("I shall become SyncSource, but I am inconsistent!") and disconnects.
    Connected without a resync is rule 10 only: both just created. A full sync follows, which is wanted: that the
    samples of both disks are zero does not make the disks equal.
    """
    ready = (
        desired.spec.service == "Prepare"  # later an empty pair is a disaster, to be looked at by a person
        and desired.spec.replication.seed == desired.node
        and facts.connection == "Connected"
        and facts.metadata == Metadata.JUST_CREATED
        and (facts.disk_state, facts.peer_disk_state) == ("Inconsistent", "Inconsistent")
        and (facts.role, facts.peer_role) == ("Secondary", "Secondary")
    )
    if not ready:
        return []
    force = Run(("drbdadm", "primary", "--force", RESOURCE))
    return [Action("drbd.first-sync", f"start the first sync from {desired.node}: neither disk has data", (force,))]


def _verdict(desired: Desired, facts: DrbdFacts) -> Verdict:
    node, peer = desired.node, desired.peer
    if facts.disk_state in ("Diskless", "Failed"):
        path = _own_host(desired).disk
        return Verdict(
            False, "DiskFailed", f"DRBD on {node} runs without its disk {path}: see `dmesg` there, replace it."
        )
    if facts.connection == "StandAlone":
        return Verdict(
            False,
            "StandAlone",
            f"DRBD on {node} refuses the connection to {peer} (split brain, or data of another origin: `dmesg`). "
            "Nothing is discarded by itself: decide whose changes go (docs: split brain).",
        )
    if facts.connection in ("SyncSource", "SyncTarget", "PausedSyncS", "PausedSyncT"):
        direction = "from" if facts.connection.endswith(("Target", "SyncT")) else "to"
        return Verdict(False, "Resyncing", f"{node} is synchronising {direction} {peer}.", waiting=True)
    if facts.connection not in ("Connected", "VerifyS", "VerifyT"):
        return Verdict(
            False,
            "PeerNotConnected",
            f"DRBD on {node} does not reach {peer}: is {peer} up, and the replication network?",
            waiting=desired.spec.service == "Prepare",  # the peer is being set up too
        )
    if facts.metadata == Metadata.JUST_CREATED:
        seed = desired.spec.replication.seed
        text = f"{node} is connected; the first sync starts from {seed}."
        return Verdict(False, "WaitingForSeed", text, waiting=True)
    if (facts.disk_state, facts.peer_disk_state) != ("UpToDate", "UpToDate"):
        states = f"{facts.disk_state} on {node}, {facts.peer_disk_state} on {peer}"
        return Verdict(False, "NotUpToDate", f"The copies are not both good: {states}.")
    return Verdict(True, "UpToDate", f"Connected to {peer}, both copies are up to date.")


def classify(disk: DiskFacts, recorded_disk: str | None, current_uuid: int | None) -> Metadata:
    """What a disk is whose resource is not up. Ours: DRBD's metadata, and this host's record names the disk."""
    if not disk.present:
        return Metadata.UNKNOWN
    if "drbd" in disk.signatures and recorded_disk == disk.path:
        just_created = current_uuid is not None and current_uuid & ~_WAS_PRIMARY == _UUID_JUST_CREATED
        return Metadata.JUST_CREATED if just_created else Metadata.INITIALIZED
    if disk.signatures or disk.in_use_by or not disk.zeroed:
        return Metadata.FOREIGN
    return Metadata.EMPTY


def _observe_disk(host: Host, path: str, facts: DrbdFacts) -> DrbdFacts:
    known = record.read(host)
    disk = blockdevice.inspect(host, path)
    uuid = None
    if "drbd" in disk.signatures:
        uuid = _current_uuid(host, ("drbdmeta", str(MINOR), "v08", path, "internal", "get-gi"))
    return replace(facts, disk=disk, metadata=classify(disk, known.disk if known else None, uuid))


def _live_metadata(host: Host, disk_state: str) -> Metadata:
    """What DRBD's own state says; the UUID is asked only where it matters, before the first sync."""
    if disk_state in _WITH_DATA:
        return Metadata.INITIALIZED
    if disk_state != "Inconsistent":
        return Metadata.UNKNOWN  # Diskless, Failed, Attaching, Negotiating
    uuid = _current_uuid(host, ("drbdadm", "get-gi", RESOURCE))
    if uuid is None:
        return Metadata.UNKNOWN
    return Metadata.JUST_CREATED if uuid & ~_WAS_PRIMARY == _UUID_JUST_CREATED else Metadata.INITIALIZED


def _current_uuid(host: Host, argv: tuple[str, ...]) -> int | None:
    """The first field of `get-gi`: 0000000000000004:0000...:..."""
    result = host.run(argv)
    found = re.match(r"([0-9A-Fa-f]{16}):", result.stdout)
    return int(found[1], 16) if result.returncode == 0 and found else None


def _minor_holder(host: Host) -> str:
    """Which resource minor 0 belongs to; asked once per incarnation of the device (sysfs never reuses an inode)."""
    return host.remember("drbd minor", host.stamp(f"/sys/block/drbd{MINOR}"), lambda: _ask_minor_holder(host))


def _ask_minor_holder(host: Host) -> str:
    told = host.run(("drbdsetup", "events2", "--now"))
    if told.returncode != 0:
        raise OSError(f"drbdsetup events2: {told.complaint()}")  # no answer does not say that it is ours
    for line in told.stdout.splitlines():
        words = dict(word.split(":", 1) for word in line.split() if ":" in word)
        if line.startswith("exists device ") and words.get("minor") == str(MINOR):
            return words.get("name", "")
    return ""


def _adjustable(facts: DrbdFacts) -> bool:
    """`adjust` would also attach a disk that failed, and connect where DRBD refused: both are a person's decision."""
    return facts.up and facts.connection != "StandAlone" and facts.disk_state not in ("Diskless", "Failed")


def _drifted(host: Host, facts: DrbdFacts) -> bool:
    if facts.config is None:
        return False
    key = (
        host.changes,
        host.stamp(CONFIG),
        host.stamp(f"/sys/block/drbd{MINOR}"),
        int(time.monotonic() / _ADJUST_SECONDS),
    )
    return host.remember("drbd drift", key, lambda: _ask_drift(host))


def _ask_drift(host: Host) -> bool:
    result = host.run(("drbdadm", "--dry-run", "adjust", RESOURCE))
    return result.returncode == 0 and bool(result.stdout.strip())


def _adjust() -> Run:
    return Run(("drbdadm", "adjust", RESOURCE), timeout_seconds=60)


def _own_disk(desired: Desired | None) -> str:
    return _own_host(desired).disk if desired else ""


def _own_host(desired: Desired) -> views.ReplicationHost:
    return next(host for host in desired.spec.replication.hosts if host.name == desired.node)


def _address_present(desired: Desired, snapshot: HostSnapshot) -> bool:
    if snapshot.network is None:
        return False
    address = _own_host(desired).address
    return any(a.partition("/")[0] == address for link in snapshot.network.interfaces for a in link.addresses)
