"""The file system on the replicated device: made once, by the seed, before Heartbeat ever runs the service.

From then on the resource script mounts and unmounts it, and this module only looks. Making it is a chain of small
steps (promote, look, mkfs, mount, folders, record, unmount, demote), each of which can be the one where the power
goes: what the next step is follows from the device and the host record alone.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import msgspec

from storagepair_node_agent import record
from storagepair_node_agent.actions import Action, MakeDirectory, Outcome, Run, Step, Verdict
from storagepair_node_agent.host import Host
from storagepair_node_agent.snapshot import Desired, DrbdFacts, FilesystemFacts, HostSnapshot
from storagepair_node_agent.subsystems import blockdevice, drbd_proc
from storagepair_node_agent.subsystems.drbd_files import DEVICE, RESOURCE

LABEL = "storagepair"  # how a half-made or a recordless file system is told from a stranger's; at most 12 bytes (xfs)
WORKPLACE = "/run/storagepair/filesystem"  # where it is mounted to make the folders; the service mounts elsewhere
FOLDERS = (".storagepair", "luns")
_MKFS_SECONDS = 3600

# All is written by mkfs itself rather than by a kernel thread after the first mount (lazy_*_init=0): on a mirror that
# would be replication traffic beside the first writes, and again after a failover. An inode per MiB is plenty for a few
# big files and keeps mkfs short on large disks. No discard: the disk is new, and the mirror would carry it over.
_EXT = ("-q", "-F", "-L", LABEL, "-m", "1", "-i", "1048576", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard")
_MKFS = {"ext3": ("mkfs.ext3", *_EXT), "ext4": ("mkfs.ext4", *_EXT), "xfs": ("mkfs.xfs", "-q", "-f", "-K", "-L", LABEL)}

_EXT_SUPERBLOCK = 1024
_EXT_STATE = _EXT_SUPERBLOCK + 0x3A  # s_state; bit 0: cleanly made or unmounted (Documentation/filesystems/ext4)
_XFS_INPROGRESS = 126  # sb_inprogress: mkfs clears it as its last act (fs/xfs/libxfs/xfs_format.h)


def observe(host: Host, desired: Desired | None) -> FilesystemFacts:
    """Where it is mounted and how full; its signature only in the preparation, while we are Primary and it is not."""
    known = record.read(host) or record.HostRecord()
    mounted_at = _mount_point(host)
    facts = FilesystemFacts(
        signature=None, mounted_at=mounted_at, formatted_record=known.formatted, formatting_record=known.formatting
    )
    if mounted_at:
        # answered from memory, even while DRBD suspends I/O
        usage = os.statvfs(host.path(mounted_at))
        size = usage.f_blocks * usage.f_frsize
        return replace(facts, size_bytes=size, used_bytes=size - usage.f_bfree * usage.f_frsize)
    if desired is not None and desired.spec.service == "Prepare" and not known.formatted and _readable(host):
        return _examined(host, facts)
    return facts


def plan(desired: Desired, snapshot: HostSnapshot) -> Outcome:
    """On the seed in the preparation the next step towards a file system that is made and let go; else only a word."""
    facts, drbd, known = snapshot.filesystem, snapshot.drbd, record.known(snapshot)
    if facts is None or drbd is None or known is None:
        text = f"The file system on {desired.node} could not be examined; see the agent's log."
        return Outcome(Verdict(False, "Unobserved", text))
    if _serving(snapshot):
        return Outcome(_running_verdict(desired, facts))
    if facts.formatted_record:
        actions = let_go(drbd, facts)
        return Outcome(Verdict(not actions, "Formatted", "The file system is made.", waiting=bool(actions)), actions)
    if desired.spec.replication.seed != desired.node:
        text = f"The file system is made by {desired.spec.replication.seed} and comes here by replication."
        return Outcome(Verdict(True, "Replicated", text), let_go(drbd, facts))
    if desired.spec.service != "Prepare":
        return Outcome(Verdict(False, "NotRecorded", _not_recorded(desired)))
    return _make(desired, drbd, facts, known)


def _serving(snapshot: HostSnapshot) -> bool:
    """Heartbeat's resource script owns mount and role, from the moment that Heartbeat is set up here.

    Its unit alone proves nothing: Debian enables it when the package is installed.
    """
    heartbeat = snapshot.heartbeat
    return heartbeat is None or heartbeat.running or heartbeat.authkeys == "Present"


def _running_verdict(desired: Desired, facts: FilesystemFacts) -> Verdict:
    if facts.mounted_at and facts.mounted_at != desired.spec.filesystem.mount_path:
        text = (
            f"spec.filesystem.mountPath is {desired.spec.filesystem.mount_path}, but on {desired.node} the device is "
        )
        return Verdict(False, "MountedElsewhere", f"{text}mounted at {facts.mounted_at}: unmount it there.")
    return Verdict(True, "Mounted" if facts.mounted_at else "Standby", "Heartbeat decides where it is mounted.")


def _not_recorded(desired: Desired) -> str:
    return (
        f"{desired.node} has no record of having made the file system, and the service is past its preparation: "
        "nothing is made now. Is this the host the pair was set up on?"
    )


def let_go(drbd: DrbdFacts, facts: FilesystemFacts) -> tuple[Action, ...]:
    """Unmount and demote what the preparation left behind, so that any node can start the service."""
    actions: list[Action] = []
    if facts.mounted_at == WORKPLACE:
        actions.append(_unmount())
    elif facts.mounted_at:
        return ()  # a person mounted it
    if drbd.role == "Primary":
        demote = Run(("drbdadm", "secondary", RESOURCE))
        actions.append(Action("filesystem.demote", "give the primary role back", (demote,)))
    return tuple(actions)


def _make(desired: Desired, drbd: DrbdFacts, facts: FilesystemFacts, known: record.HostRecord) -> Outcome:
    """The chain on the seed."""
    if (drbd.disk_state, drbd.suspended) != ("UpToDate", False):
        text = f"The copy on {desired.node} is not up to date yet."
        return Outcome(Verdict(False, "WaitingForReplication", text, waiting=True))
    if facts.mounted_at == WORKPLACE:
        return _step(_folders(known))
    if facts.mounted_at:
        text = f"{DEVICE} on {desired.node} is mounted at {facts.mounted_at}, not by storagepair: unmount it there."
        return Outcome(Verdict(False, "MountedElsewhere", text))
    if drbd.role != "Primary":
        if drbd.peer_role == "Primary":
            return Outcome(Verdict(False, "PeerIsPrimary", f"{desired.peer} holds the primary role: demote it there."))
        promote = Run(("drbdadm", "primary", RESOURCE))
        return _step(Action("filesystem.promote", "take the primary role to make the file system", (promote,)))
    if facts.signature is None:
        return Outcome(Verdict(False, "Unobserved", f"{DEVICE} on {desired.node} can't be read; see the agent's log."))
    if _is_ours(desired, facts):
        mount = Run(
            ("mount", "-t", facts.signature, "-o", "nosuid,nodev,noexec", DEVICE, WORKPLACE), timeout_seconds=120
        )
        steps = (MakeDirectory(WORKPLACE, 0o700), mount)
        return _step(Action("filesystem.mount", f"mount the new file system at {WORKPLACE}", steps))
    if _may_make(facts):
        return _step(_mkfs(desired, known))
    found = facts.signature or "data without a known signature"
    text = f"{DEVICE} on {desired.node} holds {found} that storagepair has not made. It is not touched: see what it is."
    return Outcome(Verdict(False, "ForeignData", text))


def _is_ours(desired: Desired, facts: FilesystemFacts) -> bool:
    """Of the wanted type, with our label, made to the end: to mount it destroys nothing, whoever recorded it or not."""
    return facts.signature == desired.spec.filesystem.type and facts.label == LABEL and facts.complete


def _may_make(facts: FilesystemFacts) -> bool:
    """Proof that mkfs destroys nothing: no signature and a head of zeros. Or we recorded that this was so and began;
    then what is there now is the ruin of our own mkfs: no signature yet, or one that says it was not finished."""
    if facts.signature == "" and facts.zeroed:
        return True
    return facts.formatting_record and (facts.signature == "" or not facts.complete)


def _mkfs(desired: Desired, known: record.HostRecord) -> Action:
    kind = desired.spec.filesystem.type
    make = Run((*_MKFS[kind], DEVICE), timeout_seconds=_MKFS_SECONDS)
    intent = record.written(msgspec.structs.replace(known, formatting=True, formatted=False))
    return Action("filesystem.make", f"make {kind} on the empty device {DEVICE}", (intent, make))


def _folders(known: record.HostRecord) -> Action:
    folders = (MakeDirectory(f"{WORKPLACE}/{name}", 0o700) for name in FOLDERS)
    done = msgspec.structs.replace(known, formatting=True, formatted=True)
    steps: tuple[Step, ...] = (
        Run(("mountpoint", "-q", WORKPLACE)),  # not into the empty folder beneath
        *folders,
        Run(("sync", "--file-system", WORKPLACE), timeout_seconds=120),
        record.written(done),  # only when the folders are on the disk
    )
    return Action("filesystem.make-folders", f"make {' and '.join(FOLDERS)}, and record the file system as made", steps)


def _unmount() -> Action:
    return Action("filesystem.unmount", f"unmount {WORKPLACE}", (Run(("umount", WORKPLACE), timeout_seconds=120),))


def _step(action: Action) -> Outcome:
    return Outcome(Verdict(False, "Preparing", "The file system is being made.", waiting=True), (action,))


def _mount_point(host: Host) -> str:
    """Where the host has the replicated device mounted; PID 1's table, ours may be a container's."""
    for line in (host.read("/proc/1/mounts") or "").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == DEVICE:
            return words[1].encode().decode("unicode_escape")  # fstab(5): blanks are \040
    return ""


def _readable(host: Host) -> bool:
    """Primary and not suspended: a Secondary's device refuses to be opened, a suspended one would hang us."""
    state = drbd_proc.parse(host.read("/proc/drbd") or "")
    return state is not None and state.role == "Primary" and not state.suspended


def _examined(host: Host, facts: FilesystemFacts) -> FilesystemFacts:
    """The device's signature, label and whether its making was finished. Raises DeviceError and OSError."""
    size = blockdevice.size_of(host, DEVICE) or 0
    device: Path = host.path(DEVICE)
    found = host.run(("blkid", "-p", "-o", "export", "-s", "TYPE", "-s", "LABEL", "-s", "PTTYPE", DEVICE))
    if found.returncode == 2:  # blkid(8): nothing recognised
        return replace(facts, signature="", zeroed=blockdevice.is_zero(device, size, blockdevice.head()))
    if found.returncode != 0:
        raise blockdevice.DeviceError(f"blkid -p {DEVICE}: {found.complaint()}")
    values = dict(line.split("=", 1) for line in found.stdout.splitlines() if "=" in line)
    signature = values.get("TYPE") or values.get("PTTYPE") or "unknown"
    with device.open("rb") as file:
        first = file.read(4096)
    return replace(
        facts, signature=signature, label=values.get("LABEL", ""), complete=made_to_the_end(signature, first)
    )


def made_to_the_end(signature: str, first: bytes) -> bool:
    """By the device's first 4 KiB, whether mkfs finished; True for what isn't made by us anyway."""
    if signature.startswith("ext"):
        return bool(first[_EXT_STATE] & 1)
    if signature == "xfs":
        return first[_XFS_INPROGRESS] == 0
    return True
