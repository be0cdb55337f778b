"""Which LUNs and InitiatorACLs are accepted, and what refuses the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from storagepair_crds.quantity import QuantityError, parse_quantity
from storagepair_crds.views import LUN, InitiatorACL, NodeLUN, NodeLUNStatus, StoragePair

from storagepair_operator import reasons
from storagepair_operator.plan.model import Verdict
from storagepair_operator.snapshot import Snapshot, own_nodes

_ACCEPTED = Verdict(True, reasons.ACCEPTED, "it is part of both hosts' documents")


def judge_acl(acl: InitiatorACL, snapshot: Snapshot, pair: Verdict | None) -> Verdict:
    """Whether an InitiatorACL is carried out."""
    return _of_pair(acl, snapshot, pair) or _ACCEPTED


def judge_luns(snapshot: Snapshot, pair: Verdict | None, entries: Mapping[str, NodeLUN]) -> dict[str, Verdict]:
    """Whether each LUN is carried out. What is on the hosts wins over newcomers, among these the older one."""
    reported = dict(_reported(snapshot))
    numbers = _numbers(snapshot, entries, reported)
    verdicts: dict[str, Verdict] = {}
    for lun in snapshot.luns:  # the oldest first
        name = lun.metadata.name
        verdict = _of_pair(lun, snapshot, pair) or _of_host(lun, entries.get(name), reported.get(name))
        slot = (lun.spec.target, lun.spec.number or 0)
        if verdict is None and lun.spec.number is not None:
            holder = numbers.setdefault(slot, name)
            verdict = _number_in_use(lun, holder) if holder != name else None
        verdicts[name] = verdict or _ACCEPTED
    return verdicts


def _of_pair(thing: LUN | InitiatorACL, snapshot: Snapshot, verdict: Verdict | None) -> Verdict | None:
    """What its pair has against it."""
    name, pair = thing.spec.pair_ref.name, snapshot.pair
    if pair is None or verdict is None:
        return Verdict(False, reasons.PAIR_NOT_FOUND, f"spec.pairRef: there is no StoragePair {snapshot.key}")
    if pair.metadata.deletion_timestamp:
        return Verdict(False, reasons.PAIR_NOT_FOUND, f"spec.pairRef: StoragePair {snapshot.key} is being deleted")
    if not verdict.accepted:
        message = f"StoragePair {name} is not accepted ({verdict.reason}): {verdict.message}"
        return Verdict(False, reasons.PAIR_NOT_ACCEPTED, message)
    if all(target.name != thing.spec.target for target in pair.spec.targets):
        return Verdict(False, reasons.TARGET_NOT_FOUND, _no_target(thing.spec.target, pair))
    return None


def _of_host(lun: LUN, entry: NodeLUN | None, status: NodeLUNStatus | None) -> Verdict | None:
    """What the LUN of this name that the hosts already have has against it."""
    try:
        number, size = lun.spec.number, parse_quantity(lun.spec.size)
    except QuantityError as error:
        return Verdict(False, reasons.INVALID_SPEC, f"spec.size: {error}")
    minted = status.number if status else None
    if number is not None and minted is not None and minted != number:
        message = (
            f"spec.number: the hosts know {lun.metadata.name} as number {minted}, and so do its initiators; "
            f"declare {minted} or leave the number out"
        )
        return Verdict(False, reasons.NUMBER_DIFFERS, message)
    known = max(entry.size_bytes if entry and entry.state == "Present" else 0, (status and status.size_bytes) or 0)
    if size < known:
        message = f"spec.size: {lun.metadata.name} has {known} bytes on the hosts; nothing is ever shrunk"
        return Verdict(False, reasons.SIZE_SHRINKS, message)
    return None


def _number_in_use(lun: LUN, holder: str) -> Verdict:
    message = f"spec.number: {lun.spec.number} of target {lun.spec.target} is LUN {holder}; choose another one"
    return Verdict(False, reasons.NUMBER_IN_USE, message)


def _no_target(name: str, pair: StoragePair) -> str:
    known = ", ".join(target.name for target in pair.spec.targets)
    return f"spec.target: StoragePair {pair.metadata.name} has no target {name}; it has {known}"


def _reported(snapshot: Snapshot) -> Iterator[tuple[str, NodeLUNStatus]]:
    """What the hosts say of each LUN; the serving host's word is the last, and counts."""
    for seen in sorted(own_nodes(snapshot), key=lambda seen: seen.node.status.service.active):
        for status in seen.node.status.luns:
            if status.state != "Absent":
                yield status.name, status


def _numbers(
    snapshot: Snapshot, entries: Mapping[str, NodeLUN], reported: Mapping[str, NodeLUNStatus]
) -> dict[tuple[str, int], str]:
    """Which LUN has which number of which target on the hosts, by name. Its object may be gone from view."""
    targets = {lun.metadata.name: lun.spec.target for lun in snapshot.luns}
    targets.update({name: entry.target for name, entry in entries.items()})
    numbers = {(e.target, e.number): e.name for e in entries.values() if e.number is not None}
    for name, status in reported.items():
        if status.number is not None and name in targets:
            numbers[targets[name], status.number] = name
    return numbers
