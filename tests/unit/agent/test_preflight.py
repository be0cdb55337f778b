"""Preflight: each miss is one message that names the host and the remedy; what it blocks, and what not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from storagepair_node_agent.snapshot import DiskFacts
from storagepair_node_agent.subsystems import preflight
from unit.agent import agentbuilders as a


def verdict(snapshot, desired=None):
    return preflight.plan(desired or a.desired(), snapshot).verdict


def test_a_host_that_has_all():
    assert verdict(a.snapshot()).ready
    assert preflight.may_change(a.desired(), a.snapshot())


@pytest.mark.parametrize(
    ("part", "change", "reason", "words"),
    [
        ("preflight", {"missing_programs": ("drbdadm", "drbdmeta")}, "MissingProgram", ["apt-get install drbd-utils"]),
        ("preflight", {"missing_programs": ("heartbeat",)}, "MissingProgram", ["apt-get install heartbeat"]),
        ("preflight", {"missing_programs": ("mkfs.xfs",)}, "MissingProgram", ["apt-get install xfsprogs"]),
        ("preflight", {"missing_programs": ("hb_standby",)}, "MissingProgram", ["apt-get install heartbeat"]),
        ("preflight", {"missing_modules": ("drbd",)}, "MissingModule", ["drbd", "linux-image"]),
        ("preflight", {"versions": {"drbd": "9.2.4"}}, "WrongDrbd", ["9.2.4", "8.4"]),
        ("preflight", {"etc_protocols": False}, "MissingProtocols", ["apt-get install netbase", "pingAddresses"]),
        ("preflight", {"clock_offset_seconds": 95.0}, "ClockOff", ["ahead of", "chrony"]),
        ("preflight", {"clock_offset_seconds": -95.0}, "ClockOff", ["behind"]),
        ("preflight", {"uname": "other"}, "NodeNameDiffers", ["other", "hostnamectl"]),
        ("preflight", {"recorded_pair": "default/old"}, "OtherPair", ["default/old", "default/vmstore", "host.json"]),
        ("preflight", {"recorded_disk": "/dev/vdc"}, "OtherDisk", ["/dev/vdb", "/dev/vdc"]),
        ("drbd", {"disk": DiskFacts("/dev/vdb")}, "MissingDisk", ["spec.replication.hosts[node1].disk", "/dev/vdb"]),
        ("network", {"interfaces": ()}, "MissingInterface", ["spec.bonds[bond0].members", "eth0, eth1"]),
    ],
)
def test_misses(part, change, reason, words):
    snapshot = a.changed(a.snapshot(), part, **change)
    seen = verdict(snapshot)
    assert (seen.ready, seen.reason, seen.waiting) == (False, reason, False)
    assert all(word in seen.message for word in [*words, "node1"])
    assert not preflight.may_change(a.desired(), snapshot)


def test_one_wrong_nic_of_a_bond_that_is_not_made_yet():
    facts = a.bare_network()
    facts = replace(facts, interfaces=facts.interfaces[1:])
    assert verdict(a.snapshot(network=facts)).reason == "MissingInterface"


def test_a_bond_that_lost_a_nic_is_its_own_subsystem_s_matter():
    facts = a.network()
    facts = replace(facts, interfaces=tuple(i for i in facts.interfaces if i.name != "eth1"))
    assert verdict(a.snapshot(network=facts)).ready


def test_without_ping_addresses_netbase_is_not_needed():
    desired = a.desired()
    heartbeat = type(desired.spec.heartbeat)(
        preferred="node1",
        links=desired.spec.heartbeat.links,
        authkeys_secret_ref=desired.spec.heartbeat.authkeys_secret_ref,
    )
    snapshot = a.snapshot(preflight=a.preflight(etc_protocols=False))
    assert verdict(snapshot, a.desired(heartbeat=heartbeat)).ready


def test_all_misses_are_told_at_once():
    snapshot = a.snapshot(preflight=a.preflight(missing_programs=("tgtd", "nft"), missing_modules=("bonding",)))
    message = verdict(snapshot).message
    assert all(word in message for word in ("install tgt", "install nftables", "bonding"))


def test_the_message_does_not_change_with_the_clock():
    first = verdict(a.snapshot(preflight=a.preflight(clock_offset_seconds=95.0)))
    assert first == verdict(a.snapshot(preflight=a.preflight(clock_offset_seconds=95.7)))


def test_somebody_s_disk_or_nic_holds_all_back_before_the_service_runs_and_nothing_after():
    taken = a.bare_network()
    taken = replace(taken, interfaces=(replace(taken.interfaces[0], default_route=True), *taken.interfaces[1:]))
    for part in ({"drbd": a.drbd(metadata="Foreign")}, {"network": taken}):
        assert verdict(a.snapshot(**part)).ready, "its own subsystem tells it"
        assert not preflight.may_change(a.desired(), a.snapshot(**part))
        assert preflight.may_change(a.desired(), a.snapshot(**part, heartbeat=a.heartbeat(running=True)))


class TestARunningService:
    RUNNING = a.heartbeat(running=True)

    def test_is_cared_for_even_when_something_is_missing(self):
        snapshot = a.snapshot(preflight=a.preflight(missing_programs=("mkfs.ext4",)), heartbeat=self.RUNNING)
        assert not verdict(snapshot).ready
        assert preflight.may_change(a.desired(), snapshot)

    @pytest.mark.parametrize("change", [{"recorded_pair": "a/b"}, {"recorded_disk": "/dev/vdc"}, {"uname": "other"}])
    def test_takes_no_stranger_s_document(self, change):
        snapshot = a.snapshot(preflight=a.preflight(**change), heartbeat=self.RUNNING)
        assert not preflight.may_change(a.desired(), snapshot)

    def test_nor_one_for_another_node(self):
        assert not preflight.may_change(a.desired("node3"), a.snapshot(heartbeat=self.RUNNING))
        assert verdict(a.snapshot(), a.desired("node3")).reason == "WrongNode"

    def test_nor_anything_while_the_host_can_t_be_examined(self):
        assert not preflight.may_change(a.desired(), a.snapshot(preflight=None, heartbeat=self.RUNNING))
