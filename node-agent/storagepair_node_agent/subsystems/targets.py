"""Targets, LUNs and ACLs: on the active node the document becomes the export table, and tgtd serves the table.

Nothing is changed while the service is being started or stopped: each change runs under the resource script's lock
(`with-lock`), which refuses when the service is not up here.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from dataclasses import replace

from storagepair_node_agent import convergence, exports, identity, tgt
from storagepair_node_agent.actions import Action, Outcome, Run, Verdict
from storagepair_node_agent.host import Host, Result
from storagepair_node_agent.hostfiles import LOCK, PORT_TABLE, RUN, STORAGE
from storagepair_node_agent.reasons import Reason
from storagepair_node_agent.snapshot import Desired, HostSnapshot, LunFacts, ServiceFacts, StoredLun
from storagepair_node_agent.subsystems import drbd_proc
from storagepair_node_agent.subsystems.drbd_files import DEVICE

_SLOWEST_BYTES_PER_SECOND = 5 * 1024 * 1024  # ext3 has no fallocate: the file is written, over the mirror
_PORT_SET = ("nft", "list", "set", "inet", "storagepair", "open")


def observe(host: Host, desired: Desired | None) -> ServiceFacts:
    """What serves here. The replicated file system is only touched while DRBD does not hold its I/O back."""
    shown = _answer(host, tgt.SHOW)
    vip = desired.spec.virtual_ip.address.split("/")[0] if desired is not None else ""
    port_table, port_open = _port(host, vip)
    facts = ServiceFacts(
        virtual_ip=bool(vip) and vip in _local_addresses(host.read("/proc/1/net/fib_trie") or ""),
        port_open=port_open,
        tgtd_running=shown.returncode == 0,
        transition=_locked(host),
        targets=tgt.parse(shown.stdout) if shown.returncode == 0 else (),
        port_table=port_table,
        started=(host.read(f"{RUN}/state") or "").split()[:1] == ["started"],
        entropy=secrets.token_hex(16),
    )
    if desired is None:
        return facts
    mount = desired.spec.filesystem.mount_path
    return _with_storage(host, mount, facts) if _readable(host, mount) else facts


def plan(desired: Desired, snapshot: HostSnapshot) -> Outcome:
    """On the active node what the document asks for, one group of changes a pass; on the standby nothing."""
    service, drbd, filesystem = snapshot.service, snapshot.drbd, snapshot.filesystem
    node = desired.node
    if service is None or drbd is None or filesystem is None:
        text = f"What {node} serves could not be examined; see the agent's log."
        return Outcome(Verdict(False, "Unobserved", text))
    if desired.spec.service != "Run":
        return _waiting("WaitingForService", f"{node} is being prepared: nothing is exported yet.")
    if not service.tgtd_running:
        return _waiting("TgtdNotRunning", f"tgtd does not run on {node}; it is started again.")
    if service.transition:
        return _waiting("Transition", f"The service is being started or stopped on {node}.")
    if drbd.role != "Primary" or not filesystem.mounted_at:
        return _standby(desired, service)
    if drbd.suspended:
        return Outcome(Verdict(False, "Suspended", f"DRBD holds back the I/O on {node}: nothing is changed."))
    if not service.started or not service.virtual_ip:
        return _waiting("NotStarted", f"Heartbeat has not brought the service up on {node}.")
    if not service.storage_seen:  # the mirror's state changed between two looks: what was not looked at is not empty
        return _waiting("Unobserved", f"The storage on {node} could not be read at that moment; it is looked at again.")
    if service.table_damaged:
        text = (
            f"{filesystem.mounted_at}/{exports.TABLE} on {node} is damaged: {service.table_damaged}. It is not touched."
        )
        return Outcome(Verdict(False, "TableDamaged", f"{text} Restore it from the running targets or a backup."))
    return _active(desired, service)


def _active(desired: Desired, service: ServiceFacts) -> Outcome:
    wanted = convergence.wanted(desired, service)
    before = convergence.current(service)
    actions = []
    if steps := convergence.steps(before, wanted.table, service):
        summary = "make tgtd and the export table what the document says"
        actions.append(Action("targets.export", summary, steps))
    # a file is exported by the next pass, which sees that it is whole
    actions += [_make(lun.name, lun.size_bytes, minted) for lun, minted in wanted.make]
    actions += [_delete(name) for name in wanted.delete]
    if wanted.problems:
        text = "; ".join(f"{what} on {desired.node}: {problem}" for what, problem in sorted(wanted.problems.items()))
        return Outcome(Verdict(False, "CannotExport", text), tuple(actions))
    if actions:
        return Outcome(Verdict(False, "Exporting", "Exports are being changed.", waiting=True), tuple(actions))
    return Outcome(Verdict(True, "Serving", f"{len(before.luns)} LUNs are exported by {desired.node}."))


def _standby(desired: Desired, service: ServiceFacts) -> Outcome:
    ours = {target.iqn for target in desired.spec.targets}
    left = sorted(target.iqn for target in service.targets if target.iqn in ours)
    if left:
        text = (
            f"tgtd on {desired.node} has {', '.join(left)} although the storage is not here (the port is closed): "
            "run `systemctl restart tgt` there"
        )
        return Outcome(Verdict(False, "LeftoverTargets", text))
    return Outcome(Verdict(True, "Standby", f"{desired.node} serves nothing and is ready to."))


def _make(name: str, size_bytes: int, minted: identity.Identity) -> Action:
    run = Run(
        (STORAGE, "make-lun", name, str(size_bytes)),
        timeout_seconds=60 + size_bytes / _SLOWEST_BYTES_PER_SECOND,
        stdin=identity.document(minted),
    )
    summary = f"mint the identity of LUN {name} (number {minted.number}), then make its file of {size_bytes} bytes"
    return Action("targets.make-lun", summary, (run,))


def _delete(name: str) -> Action:
    run = Run((STORAGE, "delete-lun", name), timeout_seconds=60)
    return Action("targets.delete-lun", f"delete the backing file of LUN {name} (deletionPolicy Delete)", (run,))


def _waiting(reason: Reason, message: str) -> Outcome:
    return Outcome(Verdict(False, reason, message, waiting=True))


# ---------------------------------------------------------------------------- looking


def _with_storage(host: Host, mount: str, facts: ServiceFacts) -> ServiceFacts:
    """The export table, the LUNs' files and folders."""
    usage = os.statvfs(host.path(mount))
    free = usage.f_bavail * usage.f_frsize
    text = host.read(f"{mount}/{exports.TABLE}")
    table, damaged = exports.Table(), ""
    if text is not None:
        try:
            table = exports.parse(text, mount)
        except exports.TableDamaged as error:
            damaged = str(error)
    luns = tuple(_with_file(host, lun) for lun in table.luns)
    return replace(
        facts,
        storage_seen=True,
        table_readable=text is not None and not damaged,
        table_damaged=damaged,
        exported_targets=table.targets,
        luns=luns,
        free_bytes=free,
        stored=_stored(host, mount, {lun.name for lun in luns}),
    )


def _with_file(host: Host, lun: LunFacts) -> LunFacts:
    return replace(lun, file_bytes=_size(host, lun.path))


def _size(host: Host, path: str) -> int | None:
    stamp = host.stamp(path)
    return stamp[1] if stamp is not None else None


def _stored(host: Host, mount: str, exported: set[str]) -> tuple[StoredLun, ...]:
    """The LUN folders that the table does not name."""
    try:
        names = sorted(entry.name for entry in host.path(f"{mount}/luns").iterdir() if entry.is_dir())
    except FileNotFoundError:
        return ()
    return tuple(
        identity.stored(
            name, host.read(f"{mount}/luns/{name}/identity.json"), _size(host, f"{mount}/{exports.image(name)}")
        )
        for name in names
        if name not in exported
    )


def _readable(host: Host, mount: str) -> bool:
    """Mounted where it belongs, and a read would not hang."""
    state = drbd_proc.parse(host.read("/proc/drbd") or "")
    if state is None or state.role != "Primary" or state.suspended:
        return False
    table = (line.split(" ") for line in (host.read("/proc/1/mounts") or "").splitlines())
    return any(words[:2] == [DEVICE, mount] for words in table)


def _answer(host: Host, argv: tuple[str, ...]) -> Result:
    """A program's answer. Raises TimeoutError for none: that is not the answer that nothing is there."""
    result = host.run(argv)
    if result.returncode == 124:
        raise TimeoutError(result.stderr)
    return result


def _port(host: Host, vip: str) -> tuple[bool, bool]:
    """(table loaded, open for the VIP). Asked of the kernel when one of our scripts changed it, and once a minute in
    case that somebody else did."""

    def ask() -> tuple[bool, bool]:
        shown = _answer(host, _PORT_SET)
        words = shown.stdout.replace(",", " ").split()
        return shown.returncode == 0, bool(vip) and vip in words

    fingerprint = (vip, host.stamp(f"{RUN}/port"), host.stamp(PORT_TABLE), host.changes, int(time.monotonic() // 60))
    return host.remember("targets.port", fingerprint, ask)


def _locked(host: Host) -> bool:
    """Whether the resource script (or a change of ours) holds the lock: ask for a shared one, let go at once."""
    try:
        descriptor = os.open(host.path(LOCK), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _local_addresses(fib_trie: str) -> set[str]:
    """The host's own IPv4 addresses in /proc/net/fib_trie: a line with the address, then one "/32 host LOCAL"."""
    found, address = set(), ""
    for line in fib_trie.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] in ("|--", "+--"):
            address = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            found.add(address)
    return found
