"""The end of a pair that was deleted with deletionPolicy Teardown: what each host's document says next. Pure.

The order guards the data. The machine that stands by stops first, or it would take over; then the one that serves, and
the mirror stays up meanwhile; only when both copies are equal does it come down, so that whichever machine is started
first a year later has every acknowledged write. A machine that does not answer is waited for, until a person says not
to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from storagepair_crds.views import LUN, InitiatorACL, Metadata, NodeSpec, StoragePair

from storagepair_operator.roles import connected, roles
from storagepair_operator.snapshot import FINALIZER, Intent, Observed, Snapshot, own_nodes

ABANDON = "storagepair.dev/abandon"
"""The annotation that ends the waiting: "true" lets go of the object at once, a pair takes machines' names too."""

TEARDOWN = "Teardown"  # the policy, and the condition of the agents
PREPARE, STOPPED, REMOVED = "Prepare", "Stopped", "Removed"


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a deletion that is not over stands. `nodes`: the documents of the hosts that are asked for something."""

    message: str
    nodes: Mapping[str, NodeSpec] = field(default_factory=dict)
    released: bool = False  # nothing is left to wait for: the object may go
    torn_down: bool = False  # because all that was to be done on the hosts is done


def abandoned(about: Metadata) -> frozenset[str]:
    """What a person has given up: names of machines, or "true" for everything."""
    return frozenset(word for word in about.annotations.get(ABANDON, "").replace(",", " ").split() if word != "false")


def given_up(thing: StoragePair | LUN | InitiatorACL) -> bool:
    """Whether the object shall go at once, whatever is still to be done for it."""
    return "true" in abandoned(thing.metadata)


def begun(pair: StoragePair, snapshot: Snapshot) -> bool:
    """Whether a host's document says already that this very pair ends. What is decided stays decided."""
    return any(seen.node.spec.service in (STOPPED, REMOVED) for seen in hosts_of(pair, snapshot).values())


def hosts_of(pair: StoragePair, snapshot: Snapshot) -> dict[str, Observed]:
    """The hosts whose document was written for this pair object, not for an earlier one of its name."""
    found = (seen for seen in own_nodes(snapshot) if seen.node.spec.pair_ref.uid == pair.metadata.uid)
    return {seen.node.metadata.name: seen for seen in found}


def to_hold(pair: StoragePair) -> bool:
    """Whether its deletion must wait for us. Only where hosts have something to do; Retain can't get stuck."""
    metadata = pair.metadata
    return (
        pair.spec.deletion_policy == TEARDOWN
        and not metadata.deletion_timestamp
        and FINALIZER not in metadata.finalizers
    )


def ending(pair: StoragePair, snapshot: Snapshot, intents: Mapping[str, Intent]) -> Ending | None:
    """What a deletion, or a policy that has become Retain, asks for; None while the pair lives as it says."""
    if FINALIZER not in pair.metadata.finalizers:
        return None
    if not pair.metadata.deletion_timestamp:
        return Ending("it is not held any more", released=True) if pair.spec.deletion_policy != TEARDOWN else None
    if given_up(pair):
        return Ending(f"it was given up by the annotation {ABANDON}", released=True)
    if not begun(pair, snapshot):
        intent = intents.get(pair.metadata.uid)
        if intent is Intent.FORGET or pair.spec.deletion_policy != TEARDOWN:
            return Ending("it is forgotten, its hosts stay as they are", released=True)
        if intent is None:
            return Ending("it is not known yet whether the deletion is meant for the hosts")
    hosts = hosts_of(pair, snapshot)
    names = [node.name for node in pair.spec.nodes]
    wanted, waits = _next(names, hosts, abandoned(pair.metadata))
    specs = {
        name: msgspec.structs.replace(hosts[name].node.spec, service=service, switchover=None)
        for name, service in wanted.items()
    }
    return Ending(_message(pair, waits), specs, released=not waits, torn_down=not waits)


def _next(names: Iterable[str], hosts: Mapping[str, Observed], ignored: frozenset[str]) -> tuple[dict[str, str], Waits]:
    """The services that the documents shall say now, and whom that waits for and why; nobody when all is done."""
    services = {seen.node.spec.service for seen in hosts.values()}
    if REMOVED in services or services <= {PREPARE}:  # nothing serves here, or not any more
        return dict.fromkeys(hosts, REMOVED), _unconfirmed(hosts, hosts, REMOVED, ignored)
    last = _last(hosts)
    others = [name for name in names if name != last]
    wanted = {name: STOPPED for name in others if name in hosts}
    waits = _unconfirmed(others, hosts, STOPPED, ignored)
    if last and (not waits or hosts[last].node.spec.service == STOPPED):
        wanted[last] = STOPPED
        waits = waits or _unconfirmed([last], hosts, STOPPED, ignored)
    waits = waits or _unequal(hosts, ignored)
    if waits:
        return wanted, waits
    return dict.fromkeys(hosts, REMOVED), _unconfirmed(hosts, hosts, REMOVED, ignored)


def _last(hosts: Mapping[str, Observed]) -> str:
    """The host that serves, or did when it was last heard of; "" when none does."""
    who = roles(tuple(hosts.values()))
    serving = who.active or who.unconfirmed
    return serving.node.metadata.name if serving is not None else ""


Waits = dict[str, str]
"""Host -> what it still has to do or to say."""


def _unconfirmed(names: Iterable[str], hosts: Mapping[str, Observed], service: str, ignored: frozenset[str]) -> Waits:
    found = {name: _lacks(hosts.get(name), service) for name in names if name not in ignored}
    return {name: lack for name, lack in found.items() if lack}


def _lacks(seen: Observed | None, service: str) -> str:
    """Why a host does not count as stopped, or as cleared; "" when it does."""
    if seen is None:
        return "it has no StorageNode"
    generation = seen.node.metadata.generation
    told = next((each for each in seen.node.status.conditions if each.type == TEARDOWN), None)
    carried_out = seen.node.spec.service == service and told is not None and told.observed_generation >= generation
    if carried_out and told is not None:
        return "" if told.status == "True" else told.message or told.reason
    return f"its agent has not confirmed that it is {service.lower()}"


def _unequal(hosts: Mapping[str, Observed], ignored: frozenset[str]) -> Waits:
    """The hosts whose copy is not known to be equal to the other one."""
    if ignored & hosts.keys():
        return {}
    return {
        name: f"its copy is {mirror.disk_state}, the mirror is {mirror.connection}: both copies must be equal first"
        for name, seen in hosts.items()
        if not connected(mirror := seen.node.status.replication) or mirror.disk_state != "UpToDate"
    }


def _message(pair: StoragePair, waits: Waits) -> str:
    if not waits:
        return f"{' and '.join(node.name for node in pair.spec.nodes)} are cleared; the data stays on their disks"
    told = "; ".join(f"waits for {name}: {why}" for name, why in waits.items())
    return (
        f"it is being torn down, {told}. To go on without a machine annotate the pair {ABANDON}=NAME; to let go of it "
        f"at once and leave the machines as they are, {ABANDON}=true"
    )
