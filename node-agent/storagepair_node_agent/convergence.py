"""From the document to the export table, and from the table to tgtd. Pure; the subsystem `targets` puts it to work.

The table says what is served; a document can add to it, change it, or take away what it names as `Absent`. What the
document does not name stays (absence is no instruction) and is told by `unmanaged()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from storagepair_crds import views

from storagepair_node_agent import exports, identity
from storagepair_node_agent.actions import Run, Step
from storagepair_node_agent.exports import Table
from storagepair_node_agent.hostfiles import EXPORTS, PORT, STORAGE, WITH_LOCK
from storagepair_node_agent.snapshot import (
    Desired,
    ExportedTarget,
    LogicalUnit,
    LunFacts,
    ServiceFacts,
    StoredLun,
    TargetFacts,
)

RESERVE_BYTES = 8 * 1024 * 1024  # for the table, the journal of the file system, a file's own metadata
_TGTADM = ("tgtadm", "--lld", "iscsi")
_CHANGE_SECONDS = 60  # the lock is waited for 10 s, a LUN that still works 5 s
_NUMBERS = range(1, 256)


@dataclass(frozen=True)
class Wanted:
    """What shall be: the table, the LUNs whose files are to be made or deleted first, and what can't be done."""

    table: Table
    make: tuple[tuple[views.NodeLUN, identity.Identity], ...] = ()
    delete: tuple[str, ...] = ()
    problems: dict[str, str] = field(
        default_factory=dict
    )  # "lun NAME" or "target NAME" -> what is wrong and what to do


def pair_key(desired: Desired) -> str:
    return f"{desired.spec.pair_ref.namespace}/{desired.spec.pair_ref.name}"


def current(service: ServiceFacts) -> Table:
    return Table(service.exported_targets, service.luns)


def normalised(address: str) -> str:
    """As tgtd's ACLs need it: a bare address without /32 (which never matches), a network with its host bits zero."""
    network = IPv4Network(address, strict=False)
    return str(network.network_address if network.prefixlen == 32 else network)


def wanted(desired: Desired, service: ServiceFacts) -> Wanted:
    """The table that the document asks for, on top of the one that is there."""
    problems: dict[str, str] = {}
    table = current(service)
    targets = {target.name: target for target in table.targets}
    for target in desired.spec.targets:
        found = _target(desired, target, targets, service)
        if isinstance(found, str):
            problems[f"target {target.name}"] = found
        else:
            targets[target.name] = found
    luns = _Luns(desired, service, frozenset(targets), {lun.name: lun for lun in table.luns}, problems)
    for lun in desired.spec.luns:
        luns.consider(lun)
    return Wanted(
        Table(tuple(targets.values()), tuple(luns.table.values())), tuple(luns.make), tuple(luns.delete), problems
    )


def _target(
    desired: Desired, target: views.NodeTarget, known: dict[str, ExportedTarget], service: ServiceFacts
) -> ExportedTarget | str:
    """A target with its ACLs as the document wants them: entries that it does not name stay."""
    found = known.get(target.name)
    if found is not None and found.iqn != target.iqn:
        return (
            f"{desired.node} serves it as {found.iqn}: spec.targets[].iqn can't change to {target.iqn}; change it back"
        )
    if found is None:
        if any(other.iqn == target.iqn for other in known.values()):
            return f"{target.iqn} is another target's already: choose another iqn"
        taken = {other.tid for other in known.values()} | {other.tid for other in service.targets}
        found = ExportedTarget(
            target.name,
            identity.target_number(pair_key(desired), target.iqn, frozenset(taken)),
            target.iqn,
            {},
        )
    initiators = dict(found.initiators)
    for entry in target.initiators:
        addresses = tuple(dict.fromkeys(normalised(address) for address in entry.addresses))
        if entry.state == "Absent" or not addresses:
            initiators.pop(entry.acl, None)
        else:
            initiators[entry.acl] = addresses
    return replace(found, initiators=initiators)


@dataclass
class _Luns:
    """The document's LUNs, one after the other, onto the table."""

    desired: Desired
    service: ServiceFacts
    targets: frozenset[str]
    table: dict[str, LunFacts]
    problems: dict[str, str]
    make: list[tuple[views.NodeLUN, identity.Identity]] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)
    promised_bytes: int = 0

    def consider(self, lun: views.NodeLUN) -> None:
        known = self.table.get(lun.name)
        folder = next((stored for stored in self.service.stored if stored.name == lun.name), None)
        if lun.state == "Absent":
            self.table.pop(lun.name, None)
            ours = folder is not None and folder.pair == pair_key(self.desired)
            if known is None and ours and lun.deletion_policy == "Delete":
                self.delete.append(lun.name)  # a pass after the export went: nobody can have it open any more
            return
        if known is not None:
            problem = self._keep(lun, known)
        elif lun.target not in self.targets:
            problem = f"there is no target {lun.target} on {self.desired.node}: name one in spec.target"
        elif folder is not None and folder.scsi_id:
            problem = self._adopt(lun, folder)
        elif folder is not None and folder.file_bytes is not None:
            problem = (
                f"its folder on {self.desired.node} holds a backing file without a readable identity.json: it is not "
                "touched; restore that file, or move the folder away"
            )
        else:
            problem = self._new(lun)
        if problem:
            self.problems[f"lun {lun.name}"] = problem

    def _keep(self, lun: views.NodeLUN, known: LunFacts) -> str:
        self.table[lun.name] = replace(known, write_policy=lun.write_policy)
        if known.file_bytes is None:
            return f"its backing file {known.path} is gone on {self.desired.node}: restore it, or delete the LUN"
        if lun.target != known.target:
            return f"it is exported by target {known.target}: spec.target can't change"
        if lun.number not in (None, known.number):
            return f"its number is {known.number} for ever: change spec.number back"
        return self._size(lun, known.file_bytes)

    def _size(self, lun: views.NodeLUN, file_bytes: int) -> str:
        if lun.size_bytes == file_bytes:
            return ""
        return f"its backing file has {file_bytes} bytes, spec.size says {lun.size_bytes}: set the size to the file's"

    def _adopt(self, lun: views.NodeLUN, folder: StoredLun) -> str:
        """An identity that lies on the storage counts more than any document."""
        if folder.pair != pair_key(self.desired):
            return f"the LUN of that name on the storage belongs to pair {folder.pair}: choose another name"
        if folder.target != lun.target:
            return f"its identity says target {folder.target}: set spec.target to that"
        if lun.number not in (None, folder.number):
            return f"its identity says number {folder.number}: set spec.number to that, or leave it out"
        holder = self._holder(folder.target, folder.number)
        if holder:
            return f"its number {folder.number} is now LUN {holder}'s: delete that one first"
        if folder.file_bytes is None:
            return self._room(lun) or self._promise(lun, _identity(folder))
        facts = identity.adopted(folder, folder.file_bytes, self._path(lun.name), lun.write_policy)
        self.table[lun.name] = facts
        return self._size(lun, folder.file_bytes)

    def _new(self, lun: views.NodeLUN) -> str:
        number = lun.number or next((n for n in _NUMBERS if not self._taken(lun.target, n)), None)
        if number is None:
            return f"target {lun.target} has no free number: 255 LUNs are the most"
        holder = self._holder(lun.target, number)
        if holder:
            return f"number {number} of target {lun.target} is LUN {holder}'s: choose another spec.number"
        minted = identity.mint(self.service.entropy, pair_key(self.desired), lun.name, lun.target, number)
        return self._room(lun) or self._promise(lun, minted)

    def _room(self, lun: views.NodeLUN) -> str:
        free = self.service.free_bytes - self.promised_bytes - RESERVE_BYTES
        if lun.size_bytes <= free:
            return ""
        return (
            f"it needs {lun.size_bytes} bytes and {self.desired.spec.filesystem.mount_path} on {self.desired.node} has "
            f"{max(0, free)} free: choose a smaller spec.size or delete another LUN"
        )

    def _promise(self, lun: views.NodeLUN, minted: identity.Identity) -> str:
        self.promised_bytes += lun.size_bytes
        self.make.append((lun, minted))
        return ""

    def _path(self, name: str) -> str:
        return f"{self.desired.spec.filesystem.mount_path}/{exports.image(name)}"

    def _holder(self, target: str, number: int) -> str:
        """Which LUN has the number in the table, or is about to get it."""
        for lun in self.table.values():
            if (lun.target, lun.number) == (target, number):
                return lun.name
        return next((lun.name for lun, new in self.make if (new.target, new.number) == (target, number)), "")

    def _taken(self, target: str, number: int) -> bool:
        """A minted number also keeps off those of retained LUNs, so that these can come back."""
        # those that this very pass takes out of the table are not among the stored ones yet
        known = {(lun.target, lun.number) for lun in self.service.luns}
        known |= {(folder.target, folder.number) for folder in self.service.stored}
        retained = (target, number) in known
        return retained or bool(self._holder(target, number))


def _identity(folder: StoredLun) -> identity.Identity:
    return identity.Identity(
        pair=folder.pair,
        lun=folder.name,
        target=folder.target,
        number=folder.number,
        scsi_id=folder.scsi_id,
        serial=folder.serial,
        vendor_id=folder.vendor_id,
        product_id=folder.product_id,
    )


# ---------------------------------------------------------------------------- from the table to tgtd


def steps(before: Table, after: Table, service: ServiceFacts) -> tuple[Step, ...]:
    """What makes tgtd and the table on the storage what `after` says.

    What goes leaves tgtd before it leaves the table, what comes is in the table before it is in tgtd: wherever this
    breaks off, the table still tells the next pass (or the other node) what there is to do.
    """
    found: list[Step] = []
    running = {(target.tid, target.iqn): target for target in service.targets}

    def per_target(table: Table, work: Callable[[ExportedTarget, TargetFacts | None], Iterable[Step]]) -> None:
        for target in table.targets:
            found.extend(work(target, running.get((target.tid, target.iqn))))

    per_target(before, lambda target, live: _removals(before, after, target, live))
    if before != after or not service.table_readable:
        found.append(Run((WITH_LOCK, STORAGE, "put", exports.TABLE), _CHANGE_SECONDS, stdin=exports.render(after)))
    per_target(after, lambda target, live: _additions(after, target, live))
    per_target(after, lambda target, live: _evictions(before, target, live))
    if not service.port_open and after.targets:
        found.append(Run((WITH_LOCK, PORT, "open"), _CHANGE_SECONDS))
    return tuple(found)


def addresses(target: ExportedTarget | None) -> tuple[str, ...]:
    """All addresses that a target admits, each once."""
    if target is None:
        return ()
    return tuple(dict.fromkeys(address for entry in target.initiators.values() for address in entry))


def _removals(before: Table, after: Table, target: ExportedTarget, live: TargetFacts | None) -> Iterator[Step]:
    if live is None:
        return
    for lun in before.luns:
        if lun.target == target.name and after.lun(lun.name) is None and lun.number in live.luns:
            yield _locked(EXPORTS, "remove-lun", str(target.tid), str(lun.number))
    kept = addresses(after.target(target.name))
    for address in addresses(target):
        if address not in kept and address in live.acls:
            yield _locked(*_TGTADM, "--op", "unbind", "--mode", "target", "--tid", str(target.tid), "-I", address)


def _additions(after: Table, target: ExportedTarget, live: TargetFacts | None) -> Iterator[Step]:
    if live is None:
        yield _locked(EXPORTS, "add-target", str(target.tid), target.iqn)
    for lun in after.luns:
        if lun.target != target.name or lun.file_bytes is None:
            continue
        unit = next((unit for unit in live.units if unit.number == lun.number), None) if live else None
        if unit is None:
            yield _lun_step("add-lun", target, lun)
        elif not _same(unit, lun):
            yield _lun_step("replace-lun", target, lun)
    for address in addresses(target):
        if live is None or address not in live.acls:
            yield _locked(*_TGTADM, "--op", "bind", "--mode", "target", "--tid", str(target.tid), "-I", address)


def _evictions(before: Table, target: ExportedTarget, live: TargetFacts | None) -> Iterator[Step]:
    """Close the sessions that no ACL admits any more: tgtd looks at its ACLs at a login only. One that a person bound
    in tgtd by hand still counts."""
    if live is None:
        return
    kept = addresses(target)
    ours = addresses(before.target(target.name))
    admitting = {*kept, *(address for address in live.acls if address not in ours)}
    for session, connection, _, address in live.sessions:
        if not any(admits(acl, address) for acl in admitting):
            numbers = ("--tid", str(target.tid), "--sid", str(session), "--cid", str(connection))
            yield _locked(*_TGTADM, "--op", "delete", "--mode", "conn", *numbers)


def admits(acl: str, address: str) -> bool:
    """Whether tgtd lets an initiator at `address` log in by this ACL. What is not understood admits: it is not ours."""
    try:
        return IPv4Address(address.removeprefix("::ffff:")) in IPv4Network(acl)
    except ValueError:
        return True


def _same(unit: LogicalUnit, lun: LunFacts) -> bool:
    flags = exports.flags(lun)
    return (unit.path, unit.flags, unit.scsi_id, unit.serial) == (
        lun.path,
        "" if flags == "-" else flags,
        lun.scsi_id,
        lun.serial,
    )


def _lun_step(verb: str, target: ExportedTarget, lun: LunFacts) -> Run:
    names = (lun.scsi_id, lun.serial, lun.vendor_id, lun.product_id)
    return _locked(EXPORTS, verb, str(target.tid), str(lun.number), exports.flags(lun), *names, exports.image(lun.name))


def _locked(*argv: str) -> Run:
    return Run((WITH_LOCK, *argv), _CHANGE_SECONDS)


def unmanaged(desired: Desired, service: ServiceFacts) -> tuple[str, ...]:
    """What is exported on this host and named in no document: it stays, and people shall know."""
    table = current(service)
    named = {lun.name for lun in desired.spec.luns}
    targets = {target.name: target for target in desired.spec.targets}
    found = [f"lun {lun.name}" for lun in table.luns if lun.name not in named]
    for target in table.targets:
        wanted_target = targets.get(target.name)
        if wanted_target is None:
            found.append(f"target {target.name}")
        acls = {entry.acl for entry in wanted_target.initiators} if wanted_target else set()
        found += [f"initiators {acl} of target {target.name}" for acl in target.initiators if acl not in acls]
    ours = {(target.tid, target.iqn): target for target in table.targets}
    for live in service.targets:
        target_of_ours = ours.get((live.tid, live.iqn))
        if target_of_ours is None:
            found.append(f"target {live.iqn} in tgtd")
            continue
        numbers = {lun.number for lun in table.luns if lun.target == target_of_ours.name}
        found += [f"lun {n} of {live.iqn} in tgtd" for n in live.luns if n not in numbers]
        known = addresses(target_of_ours)
        found += [f"initiator address {acl} of {live.iqn} in tgtd" for acl in live.acls if acl not in known]
    return tuple(found)
