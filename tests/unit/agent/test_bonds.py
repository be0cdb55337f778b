"""Bonds: what is made, adopted, completed and refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_crds import views
from storagepair_node_agent.snapshot import NetworkFacts
from storagepair_node_agent.subsystems import bonds
from unit.agent import agentbuilders as a

OURS = "".join(f"{line}\n" for line in bonds.batch(a.desired().spec.bonds))


def plan(facts: NetworkFacts, **spec):
    return bonds.plan(a.desired(**spec), a.snapshot(network=facts))


def with_link(facts: NetworkFacts, name: str, **more) -> NetworkFacts:
    """The facts with one interface changed; added when it isn't there."""
    others = tuple(i for i in facts.interfaces if i.name != name)
    known = facts.interface(name) or a.nic(name)
    return replace(facts, interfaces=(*others, replace(known, **more)))


def without(facts: NetworkFacts, *names: str) -> NetworkFacts:
    return replace(facts, interfaces=tuple(i for i in facts.interfaces if i.name not in names))


def made_by_us(facts: NetworkFacts) -> NetworkFacts:
    files = {**bonds._BOOT_FILES, bonds._LINK: bonds._link(a.desired().spec.bonds)}
    return replace(facts, persistent=OURS, files=files, enabled=True)


NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,14}", fullmatch=True)
ADDRESS = st.from_regex(r"10\.[1-9]\.[1-9]\.[1-9]/24", fullmatch=True)
BOND = st.builds(
    views.NodeBond,
    name=NAME,
    members=st.lists(NAME, min_size=1, max_size=8, unique=True).map(tuple),
    addresses=st.lists(ADDRESS, max_size=3, unique=True).map(tuple),
    miimon_milliseconds=st.integers(10, 10000),
)


@given(st.lists(BOND, min_size=1, max_size=3, unique_by=lambda bond: bond.name))
def test_the_batch_makes_each_bond_once_and_enslaves_only_nics_that_are_down(wanted):
    lines = bonds.batch(wanted)
    for bond in wanted:
        assert (
            lines.count(f"link add name {bond.name} type bond mode active-backup miimon {bond.miimon_milliseconds}")
            == 1
        )
        for member in bond.members:
            at = lines.index(f"link set {member} master {bond.name}")
            assert lines[at - 1] == f"link set {member} down"
        for address in bond.addresses:
            assert lines.index(f"link set {bond.name} up") < lines.index(f"addr add {address} dev {bond.name}")
    assert all(re.fullmatch(r"[A-Za-z0-9 ._/-]+", line) for line in lines)


class TestMaking:
    def test_on_a_bare_host_all_at_once_with_a_way_back(self):
        outcome = plan(a.bare_network())
        assert a.names(outcome) == ["bonds.create", "bonds.persist"]
        create = outcome.actions[0]
        run = create.steps[-1]
        assert (run.argv, run.stdin) == (("ip", "-batch", "-"), OURS)
        undo = [step.describe() for step in create.rollback]
        assert undo == [
            "run ip link delete bond0",
            "run ip link delete bond1",
            "remove /etc/storagepair/network.batch",
        ]
        assert outcome.verdict.waiting

    def test_the_boot_configuration_is_written_before_the_bonds_are_made(self):
        steps = a.steps(plan(a.bare_network()).actions[0])
        assert steps[-2].startswith("write /etc/storagepair/network.batch")
        assert steps[0].startswith("write /etc/modprobe.d/storagepair.conf")

    def test_then_the_boot_unit(self):
        facts = made_by_us(a.network())
        assert a.names(plan(replace(facts, enabled=False))) == ["bonds.persist"]
        assert plan(facts).actions == ()
        assert plan(facts).verdict.ready

    def test_only_the_missing_one(self):
        facts = without(made_by_us(a.network()), "bond1")
        facts = with_link(with_link(facts, "eth2", master=""), "eth3", master="")
        create = plan(facts).actions[0]
        assert "bond0" not in create.steps[-1].stdin
        written = next(step for step in create.steps if getattr(step, "path", "") == bonds.BATCH)
        assert written.content == OURS
        assert create.rollback[-1].content == OURS

    def test_replaces_the_empty_bond_that_modprobe_makes(self):
        idle = a.bond("bond0", mode="balance-rr", up=False)
        facts = replace(a.bare_network(), interfaces=(*a.bare_network().interfaces, idle))
        run = plan(facts).actions[0].steps[-1]
        assert run.stdin == f"link delete bond0\n{OURS}"


class TestAdopting:
    def test_equal_bonds_of_the_host_s_own_configuration_are_left_to_it(self):
        outcome = plan(a.network())
        assert (outcome.actions, outcome.verdict.ready) == ((), True)

    def test_the_floating_address_is_never_taken_away(self):
        facts = with_link(a.network(), "bond0", addresses=("10.10.25.131/24", "10.10.25.136/24"))
        assert plan(facts).actions == ()

    @pytest.mark.parametrize(
        ("link", "change", "line"),
        [
            ("bond0", {"addresses": ()}, "addr add 10.10.25.131/24 dev bond0"),
            ("bond0", {"miimon": 0}, "link set bond0 type bond miimon 100"),
            ("bond0", {"up": False}, "link set bond0 up"),
            ("eth0", {"up": False}, "link set eth0 up"),
            ("eth1", {"master": "", "up": False}, "link set eth1 down\nlink set eth1 master bond0"),
        ],
    )
    def test_what_is_lacking_is_completed(self, link, change, line):
        (action,) = plan(with_link(a.network(), link, **change)).actions
        assert action.name == "bonds.complete"
        assert action.steps[0].stdin == f"{line}\n"


@pytest.mark.parametrize(
    ("link", "change", "words"),
    [
        ("eth0", {"default_route": True}, ["members", "eth0", "default route"]),
        ("eth0", {"addresses": ("192.0.2.7/24",)}, ["members", "eth0", "192.0.2.7/24"]),
        ("eth0", {"master": "br0"}, ["members", "eth0", "br0"]),
        ("eth0", {"master": "bond7"}, ["members", "eth0", "bond7"]),
        ("eth0", {"kind": "bridge"}, ["members", "eth0", "bridge"]),
        ("bond0", {"kind": "dummy"}, ["spec.bonds[bond0]", "dummy"]),
        ("bond0", {"kind": "bond", "mode": "802.3ad"}, ["spec.bonds[bond0]", "802.3ad"]),
        ("eth9", {"master": "bond0"}, ["members", "eth9"]),
    ],
)
def test_what_is_somebody_else_s_is_refused_with_its_name(link, change, words):
    facts = with_link(a.bare_network(), link, **change)
    if change.get("master") == "bond0":
        facts = with_link(facts, "bond0", kind="bond", mode="active-backup")
    outcome = plan(facts)
    assert outcome.actions == ()
    assert (outcome.verdict.reason, outcome.verdict.waiting) == ("Refused", False)
    assert all(word in outcome.verdict.message for word in [*words, "node1"])


def test_one_refused_bond_stops_them_all():
    outcome = plan(with_link(a.bare_network(), "eth3", default_route=True))
    assert outcome.actions == ()


def test_a_cut_cable_is_named():
    verdict = plan(with_link(a.network(), "eth2", carrier=False)).verdict
    assert (verdict.ready, verdict.reason) == (False, "LinkDown")
    assert "eth2" in verdict.message
    assert "bond1" in verdict.message


def test_a_lost_nic_is_named_and_nothing_is_torn_down():
    outcome = plan(without(made_by_us(a.network()), "eth3"))
    assert (outcome.actions, outcome.verdict.reason) == ((), "MissingMember")


def test_unseen_links_change_nothing():
    assert bonds.plan(a.desired(), a.snapshot(network=None)).actions == ()
