"""What pairs claim for themselves alone: machines, IQNs, floating addresses. Who has it, and who must wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from storagepair_crds.views import StorageNode, StoragePair

from storagepair_operator import reasons
from storagepair_operator.kinds import PairKey
from storagepair_operator.plan.model import Verdict
from storagepair_operator.snapshot import Observed, Snapshot, owner


class Claim(NamedTuple):
    """One thing that only one pair can have."""

    what: str  # node | iqn | vip
    value: str


def judge(snapshot: Snapshot, pair: StoragePair) -> Verdict:
    """Whether a pair gets all that it claims.

    What a host already serves wins over any newcomer; age, then name, breaks ties between newcomers only.
    """
    if snapshot.unguarded:
        return Verdict(False, reasons.POLICY_MISSING, snapshot.unguarded)
    held = _held(snapshot.nodes, snapshot.pairs)
    wanted = list(wants(pair))
    for claim in wanted:
        holder = held.get(claim, snapshot.key)
        if holder != snapshot.key:
            return _refused(claim, holder, snapshot)
    granted = _granted(snapshot, held)
    for claim in wanted:
        holder = granted.get(claim, snapshot.key)
        if holder != snapshot.key:
            return _refused(claim, holder, snapshot)
    return Verdict(True, reasons.ACCEPTED, "the document is carried out on both hosts")


def bare(address: str) -> str:
    """The address without its prefix length."""
    return address.partition("/")[0]


def wants(pair: StoragePair) -> Iterator[Claim]:
    """What a pair's document claims."""
    for node in pair.spec.nodes:
        yield Claim("node", node.name)
    yield Claim("vip", bare(pair.spec.virtual_ip.address))
    for target in pair.spec.targets:
        yield Claim("iqn", target.iqn)


def holds(node: StorageNode) -> Iterator[Claim]:
    """What a host's document gives to the pair that it was written for."""
    yield Claim("node", node.metadata.name)
    yield Claim("vip", bare(node.spec.virtual_ip.address))
    for target in node.spec.targets:
        yield Claim("iqn", target.iqn)


def _held(nodes: Mapping[str, Observed], pairs: Mapping[PairKey, StoragePair | None]) -> dict[Claim, PairKey]:
    """What the hosts' documents give to pairs that exist (by name: a restored namespace's pair has a new UID)."""
    held: dict[Claim, PairKey] = {}
    for seen in nodes.values():
        key = owner(seen.node)
        if key in pairs:
            held.update(dict.fromkeys(holds(seen.node), key))
    return held


def _granted(snapshot: Snapshot, held: Mapping[Claim, PairKey]) -> dict[Claim, PairKey]:
    """Who gets what nobody holds: the older pair, unless it is refused itself for what another one holds."""
    granted: dict[Claim, PairKey] = {}
    pairs = [(key, pair) for key, pair in snapshot.pairs.items() if pair is not None]
    for key, pair in sorted(pairs, key=lambda item: (item[1].metadata.creation_timestamp, item[0])):
        claims = list(wants(pair))
        if pair.metadata.deletion_timestamp or any(held.get(claim, key) != key for claim in claims):
            continue
        if all(granted.get(claim, key) == key for claim in claims):
            granted.update(dict.fromkeys(claims, key))
    return granted


def _refused(claim: Claim, holder: PairKey, snapshot: Snapshot) -> Verdict:
    other = f"StoragePair {holder}"
    if claim.what == "vip":
        message = f"spec.virtualIP {claim.value} is the floating address of {other}; choose another one"
        return Verdict(False, reasons.VIP_IN_USE, message)
    if claim.what == "iqn":
        message = f"spec.targets: the IQN {claim.value} is a target of {other}; choose another one"
        return Verdict(False, reasons.IQN_IN_USE, message)
    pair = snapshot.pairs.get(holder)
    if pair is not None and all(node.name != claim.value for node in pair.spec.nodes):
        remedy = f"it was part of it before; once the machine is retired, delete StorageNode {claim.value}"
    else:
        remedy = "a machine is in one pair only"
    return Verdict(False, reasons.NODE_IN_OTHER_PAIR, f"spec.nodes: {claim.value} belongs to {other}; {remedy}")
