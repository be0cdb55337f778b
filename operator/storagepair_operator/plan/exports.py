"""The entries of targets and LUNs in the hosts' documents.

Three rules guard what serves: an entry goes away only by `Absent`, which only a deletion that was seen and judged to
be meant causes; what merely can't be seen keeps its entry unchanged; and `Absent` stays until the serving host has
confirmed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from storagepair_crds.quantity import parse_quantity
from storagepair_crds.views import LUN, InitiatorACL, InitiatorEntry, NodeLUN, NodeTarget

from storagepair_operator.plan.model import Verdict
from storagepair_operator.plan.teardown import given_up
from storagepair_operator.roles import roles
from storagepair_operator.snapshot import FINALIZER, Intent, Observed, Snapshot, own_nodes

Slot = tuple[str, str]
"""Where an InitiatorACL's entry is: target and name."""


@dataclass(frozen=True, slots=True)
class Existing:
    """What the hosts' documents say now, both together: one of them may be a write behind."""

    luns: Mapping[str, NodeLUN]
    initiators: Mapping[Slot, InitiatorEntry]
    luns_gone: frozenset[str] = frozenset()  # taken away by the serving host, as asked
    initiators_gone: frozenset[Slot] = frozenset()  # likewise


def existing(snapshot: Snapshot) -> Existing:
    """What is on record for this pair's hosts."""
    luns: dict[str, NodeLUN] = {}
    initiators: dict[Slot, InitiatorEntry] = {}
    for seen in own_nodes(snapshot):
        for lun in seen.node.spec.luns:
            if lun.name not in luns or lun.state == "Absent":  # once decided it stays decided
                luns[lun.name] = lun
        for target in seen.node.spec.targets:
            for entry in target.initiators:
                if (target.name, entry.acl) not in initiators or entry.state == "Absent":
                    initiators[target.name, entry.acl] = entry
    active = serving(snapshot)
    if active is None:
        return Existing(luns, initiators)
    return Existing(luns, initiators, _luns_gone(active), _initiators_gone(active))


def serving(snapshot: Snapshot) -> Observed | None:
    """The host that serves. None when nobody does, or when that is in doubt: then nothing counts as confirmed."""
    return roles(own_nodes(snapshot)).active


def decided(thing: LUN | InitiatorACL, now: Existing) -> bool:
    """Whether the hosts' documents already say that it shall go."""
    entry: NodeLUN | InitiatorEntry | None
    if isinstance(thing, LUN):
        entry = now.luns.get(thing.metadata.name)
    else:
        entry = now.initiators.get((thing.spec.target, thing.metadata.name))
    return entry is not None and entry.state == "Absent"


def acts_on(thing: LUN | InitiatorACL, intents: Mapping[str, Intent]) -> bool:
    """Whether its deletion is meant for the host."""
    return bool(thing.metadata.deletion_timestamp) and intents.get(thing.metadata.uid) is Intent.REMOVE


def lun_entries(
    snapshot: Snapshot, now: Existing, verdicts: Mapping[str, Verdict], intents: Mapping[str, Intent]
) -> tuple[NodeLUN, ...]:
    """The entries of all LUNs, in the order of their names."""
    entries = {name: lun for name, lun in now.luns.items() if not (lun.state == "Absent" and name in now.luns_gone)}
    for lun in snapshot.luns:
        name = lun.metadata.name
        if lun.metadata.deletion_timestamp:
            if name in now.luns and now.luns[name].state == "Absent":
                entries[name] = now.luns[name]  # until the object is gone, or it would come and go
            elif acts_on(lun, intents) and (name in now.luns or verdicts[name].accepted):
                entries[name] = msgspec.structs.replace(now.luns.get(name) or _lun(lun), **_gone(lun))
        elif verdicts[name].accepted:
            entries[name] = _lun(lun)
    return tuple(entries[name] for name in sorted(entries))


def targets(
    snapshot: Snapshot, now: Existing, verdicts: Mapping[str, Verdict], intents: Mapping[str, Intent]
) -> tuple[NodeTarget, ...]:
    """The pair's targets with their initiators."""
    if snapshot.pair is None:
        return ()
    entries = _initiators(snapshot, now, verdicts, intents)
    return tuple(
        NodeTarget(
            name=target.name,
            iqn=target.iqn,
            initiators=tuple(entries[slot] for slot in sorted(entries) if slot[0] == target.name),
        )
        for target in snapshot.pair.spec.targets
    )


def released(thing: LUN | InitiatorACL, now: Existing, verdict: Verdict, intents: Mapping[str, Intent]) -> bool:
    """Whether nothing is left to do for one that is being deleted: forgotten, given up, confirmed, never on a host."""
    metadata = thing.metadata
    if not metadata.deletion_timestamp or FINALIZER not in metadata.finalizers:
        return False
    if intents.get(metadata.uid) is Intent.FORGET or given_up(thing):
        return True
    entry: NodeLUN | InitiatorEntry | None
    if isinstance(thing, LUN):
        entry, gone = now.luns.get(metadata.name), metadata.name in now.luns_gone
    else:
        slot = (thing.spec.target, metadata.name)
        entry, gone = now.initiators.get(slot), slot in now.initiators_gone
    if entry is None:
        # one that is accepted gets an Absent entry first: a host may have what its document does not say
        return acts_on(thing, intents) and not verdict.accepted
    return entry.state == "Absent" and gone


def _initiators(
    snapshot: Snapshot, now: Existing, verdicts: Mapping[str, Verdict], intents: Mapping[str, Intent]
) -> dict[Slot, InitiatorEntry]:
    entries = {
        slot: e for slot, e in now.initiators.items() if not (e.state == "Absent" and slot in now.initiators_gone)
    }
    for acl in snapshot.acls:
        name, slot = acl.metadata.name, (acl.spec.target, acl.metadata.name)
        old = now.initiators.get(slot)
        if acl.metadata.deletion_timestamp:
            if old is not None and old.state == "Absent":
                entries[slot] = old
            elif acts_on(acl, intents) and (old is not None or verdicts[name].accepted):
                entries[slot] = InitiatorEntry(acl=name, addresses=acl.spec.addresses, state="Absent")
        elif verdicts[name].accepted:
            entries[slot] = InitiatorEntry(acl=name, addresses=acl.spec.addresses)
            for other in [s for s in entries if s[1] == name and s != slot]:
                # its own document says that it belongs to another target now
                entries[other] = msgspec.structs.replace(entries[other], state="Absent")
    return entries


def _lun(lun: LUN) -> NodeLUN:
    return NodeLUN(
        name=lun.metadata.name,
        target=lun.spec.target,
        size_bytes=parse_quantity(lun.spec.size),
        number=lun.spec.number,
        write_policy=lun.spec.write_policy,
        deletion_policy=lun.spec.deletion_policy,
    )


def _gone(lun: LUN) -> dict[str, str]:
    # what becomes of the file is what the document says at the time of its deletion
    return {"state": "Absent", "deletion_policy": lun.spec.deletion_policy}


def _carried_out(seen: Observed) -> bool:
    return seen.node.status.observed_generation >= seen.node.metadata.generation


def _luns_gone(active: Observed) -> frozenset[str]:
    """Absent in the serving host's own document, and reported so by it for this very document."""
    asked = {lun.name for lun in active.node.spec.luns if lun.state == "Absent"}
    told = {lun.name for lun in active.node.status.luns if lun.state == "Absent"}
    return frozenset(asked & told) if _carried_out(active) else frozenset()


def _initiators_gone(active: Observed) -> frozenset[Slot]:
    if not targets_applied(active):
        return frozenset()
    return frozenset(
        (target.name, entry.acl)
        for target in active.node.spec.targets
        for entry in target.initiators
        if entry.state == "Absent"
    )


def targets_applied(seen: Observed) -> bool:
    """Whether the host's targets are as its newest document says, by the agent's condition (or else its summary)."""
    conditions = {condition.type: condition for condition in seen.node.status.conditions}
    condition = conditions.get("Targets") or conditions.get("Ready")
    if condition is None or not _carried_out(seen):
        return False
    return condition.status == "True" and condition.observed_generation >= seen.node.metadata.generation
