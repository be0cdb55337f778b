"""Which pair gets a machine, an IQN or a floating address that two of them name."""

from __future__ import annotations

import pytest
from storagepair_crds.views import PairSpec
from storagepair_operator import reasons
from storagepair_operator.kinds import PairKey
from storagepair_operator.plan.model import Verdict
from storagepair_operator.snapshot import Observed, Snapshot
from unit.operator.builders import KEY, node, pair, pair_spec, planned

OTHER = PairKey("default", "other")
THIRD = PairKey("elsewhere", "third")
OTHER_NODES = ("node3", "node4")
OTHER_IQN = {"default": "iqn.2020-01.net.example:other"}


def view(key: PairKey, *pairs: object, nodes: dict[str, Observed] | None = None) -> Snapshot:
    named = {PairKey(p.metadata.namespace, p.metadata.name): p for p in pairs}
    return Snapshot(key=key, pair=named[key], pairs=named, nodes=nodes or {})


def verdict(key: PairKey, *pairs: object, nodes: dict[str, Observed] | None = None) -> Verdict:
    return planned(view(key, *pairs, nodes=nodes)).pair


def hosts_of(key: PairKey, spec: PairSpec) -> dict[str, Observed]:
    """The StorageNodes of an accepted pair."""
    owner = pair(key, spec)
    return {name: node(name, document) for name, document in planned(view(key, owner)).nodes.items()}


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        (pair_spec(("node2", "node3"), vip="10.10.25.9/24", iqns=OTHER_IQN), reasons.NODE_IN_OTHER_PAIR, "node2"),
        (pair_spec(OTHER_NODES, iqns=OTHER_IQN), reasons.VIP_IN_USE, "10.10.25.136"),
        (pair_spec(OTHER_NODES, vip="10.10.25.136/16", iqns=OTHER_IQN), reasons.VIP_IN_USE, "10.10.25.136"),
        (pair_spec(OTHER_NODES, vip="10.10.25.9/24"), reasons.IQN_IN_USE, "iqn.2011-03.org.weithenn:iscsi.storage"),
    ],
)
@pytest.mark.parametrize("established", [True, False])
def test_the_newcomer_is_refused_by_name(spec: PairSpec, reason: str, words: str, established: bool) -> None:
    first = pair(KEY, created="2026-01-01T00:00:00Z")
    second = pair(OTHER, spec, created="2026-01-02T00:00:00Z")
    nodes = hosts_of(KEY, pair_spec()) if established else {}
    assert verdict(KEY, first, second, nodes=nodes).accepted
    refused = verdict(OTHER, first, second, nodes=nodes)
    assert (refused.accepted, refused.reason) == (False, reason)
    assert words in refused.message
    assert "StoragePair default/vmstore" in refused.message


def test_what_serves_wins_over_age() -> None:
    older = pair(OTHER, created="2025-01-01T00:00:00Z")
    serving = pair(KEY, created="2026-01-01T00:00:00Z")
    nodes = hosts_of(KEY, pair_spec())
    assert verdict(KEY, older, serving, nodes=nodes).accepted
    assert verdict(OTHER, older, serving, nodes=nodes).reason == reasons.NODE_IN_OTHER_PAIR


def test_of_two_newcomers_of_one_age_the_name_decides() -> None:
    pairs = (pair(OTHER), pair(KEY), pair(THIRD))
    assert verdict(OTHER, *pairs).accepted
    assert not verdict(KEY, *pairs).accepted
    assert not verdict(THIRD, *pairs).accepted


def test_a_refused_pair_blocks_nobody() -> None:
    """The middle one loses its node to the oldest; its VIP is free for the youngest."""
    oldest = pair(KEY, created="2026-01-01T00:00:00Z")
    middle = pair(
        OTHER, pair_spec(("node1", "node3"), vip="10.10.25.9/24", iqns=OTHER_IQN), created="2026-01-02T00:00:00Z"
    )
    youngest = pair(
        THIRD,
        pair_spec(("node5", "node6"), vip="10.10.25.9/24", iqns={"t": "iqn.2020-01.net.example:t"}),
        created="2026-01-03T00:00:00Z",
    )
    pairs = (oldest, middle, youngest)
    assert [verdict(key, *pairs).accepted for key in (KEY, OTHER, THIRD)] == [True, False, True]


def test_a_pair_that_is_gone_holds_nothing() -> None:
    nodes = hosts_of(OTHER, pair_spec())
    assert verdict(KEY, pair(KEY), nodes=nodes).accepted


def test_an_unreadable_pair_still_holds_what_it_serves() -> None:
    nodes = hosts_of(OTHER, pair_spec())
    mine = pair(KEY)
    seen = Snapshot(key=KEY, pair=mine, pairs={KEY: mine, OTHER: None}, nodes=nodes)
    assert planned(seen).pair.reason == reasons.NODE_IN_OTHER_PAIR


def test_a_machine_that_its_pair_no_longer_names_is_not_given_away_silently() -> None:
    nodes = hosts_of(OTHER, pair_spec())
    elsewhere = pair(OTHER, pair_spec(OTHER_NODES, vip="10.10.25.9/24", iqns=OTHER_IQN))
    refused = verdict(KEY, pair(KEY), elsewhere, nodes=nodes)
    assert refused.reason == reasons.NODE_IN_OTHER_PAIR
    assert "delete StorageNode node1" in refused.message


def test_a_serving_pair_that_turns_to_another_ones_address_is_refused_and_stays_written() -> None:
    nodes = hosts_of(KEY, pair_spec()) | hosts_of(OTHER, pair_spec(OTHER_NODES, vip="10.10.25.9/24", iqns=OTHER_IQN))
    edited = pair(OTHER, pair_spec(OTHER_NODES, iqns=OTHER_IQN), created="2020-01-01T00:00:00Z")
    seen = view(OTHER, pair(KEY), edited, nodes=nodes)
    assert (planned(seen).pair.reason, planned(seen).nodes) == (reasons.VIP_IN_USE, {})
    assert verdict(KEY, pair(KEY), edited, nodes=nodes).accepted
