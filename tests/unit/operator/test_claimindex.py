"""A pair's view holds only the pairs and machines that it has to do with, and leads to the same judgement as all."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from storagepair_crds.views import StorageNode, StoragePair
from storagepair_operator.kinds import NODES, PAIRS, PairKey
from storagepair_operator.snapshot import Observed, Snapshot
from storagepair_operator.store import Store
from unit.operator.builders import node, pair, pair_spec, planned, snapshot, status
from unit.operator.fakes import as_document

MACHINES = st.sampled_from(["m1", "m2", "m3", "m4", "m5", "m6"])
ADDRESSES = st.sampled_from([f"10.10.25.{host}/24" for host in range(136, 140)])
NAMES = st.sampled_from([f"iqn.2001-04.com.example:{name}" for name in "abcd"])
CREATED = st.sampled_from([f"2026-01-0{day}T00:00:00Z" for day in range(1, 4)])


@st.composite
def pairs(draw: st.DrawFn, name: str) -> StoragePair:
    machines = draw(st.lists(MACHINES, min_size=2, max_size=2, unique=True))
    spec = pair_spec((machines[0], machines[1]), vip=draw(ADDRESSES), iqns={"default": draw(NAMES)})
    leaving = draw(st.sampled_from(["", "", "", "2026-02-01T00:00:00Z"]))
    return pair(PairKey("default", name), spec, created=draw(CREATED), deletion_timestamp=leaving)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[StoragePair], list[StorageNode]]:
    """Pairs that get into each other's way, and documents of hosts that some of them (or pairs gone since) wrote."""
    found = [draw(pairs(f"p{number}")) for number in range(draw(st.integers(1, 5)))]
    writers = [*found, draw(pairs("gone"))]
    hosts: dict[str, StorageNode] = {}
    for _ in range(draw(st.integers(0, 5))):
        writer = draw(st.sampled_from(writers))
        alone = pair(PairKey("default", writer.metadata.name), writer.spec)
        view = Snapshot(key=key_of(alone), pair=alone, pairs={key_of(alone): alone})
        name, spec = draw(st.sampled_from(sorted(planned(view).nodes.items())))
        hosts[name] = node(name, spec, status()).node
    return found, list(hosts.values())


def key_of(pair_: StoragePair) -> PairKey:
    return PairKey(pair_.metadata.namespace, pair_.metadata.name)


def filled(found: list[StoragePair], hosts: list[StorageNode]) -> Store:
    store = Store()
    for each in found:
        store.put(PAIRS, as_document(PAIRS, each))
    for host in hosts:
        store.put(NODES, as_document(NODES, host))
    return store


@given(worlds(), st.integers(0, 2**32))
def test_what_is_left_out_decides_nothing(world: tuple[list[StoragePair], list[StorageNode]], seed: int) -> None:
    found, hosts = world
    store = filled(found, hosts)
    # the index is kept up through changes: each object is changed to another one's content and back
    changes = [(PAIRS, each) for each in found] + [(NODES, host) for host in hosts]
    random.Random(seed).shuffle(changes)
    for version, (kind, thing) in enumerate(changes, 100):
        store.deleted(kind, thing.metadata.uid)
        store.put(kind, as_document(kind, thing, version, uid=f"again-{thing.metadata.uid}"))
    everything = {key_of(each): each for each in found}
    # of two documents that hold the same, the newer one counts
    everywhere = {thing.metadata.name: Observed(thing) for _, thing in changes if isinstance(thing, StorageNode)}
    for each in found:
        key = key_of(each)
        view = store.snapshot(key)
        whole = Snapshot(
            key=key,
            pair=view.pair,
            pairs=everything,
            nodes=everywhere,
        )
        assert planned(view) == planned(whole)


def test_who_shares_nothing_is_not_in_view() -> None:
    strangers = [
        pair(
            PairKey("default", f"s{number}"),
            pair_spec(
                (f"x{number}", f"y{number}"), vip=f"10.10.26.{number}/24", iqns={"default": f"iqn.2001-04.com:{number}"}
            ),
        )
        for number in range(20)
    ]
    store = filled([pair(), *strangers], [])
    view = snapshot()
    for name, spec in planned(view).nodes.items():
        store.put(NODES, as_document(NODES, node(name, spec, status()).node))
    found = store.snapshot(view.key)
    assert set(found.pairs) == {view.key}
    assert set(found.nodes) == {"node1", "node2"}


def test_a_rivals_rival_is_in_view() -> None:
    """Who may have what a refused pair would have had depends on why it is refused."""
    chain = [
        pair(
            PairKey("default", f"p{n}"),
            pair_spec((f"m{n}", f"m{n + 1}"), vip=f"10.10.25.{n + 100}/24", iqns={"default": f"iqn.2001-04.com:{n}"}),
            created=f"2026-01-0{n + 1}T00:00:00Z",
        )
        for n in range(3)
    ]
    store = filled(chain, [])
    verdicts = [planned(store.snapshot(key_of(each))).pair for each in chain]
    assert [verdict.accepted for verdict in verdicts if verdict] == [True, False, True]
