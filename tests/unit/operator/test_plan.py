"""plan(): the hosts' documents."""

from __future__ import annotations

import msgspec
import pytest
from storagepair_crds.views import (
    FilesystemStatus,
    HeartbeatStatus,
    NodeStatus,
    PairAddress,
    PairReplication,
    ReplicationStatus,
)
from storagepair_operator import reasons
from unit.operator.builders import (
    KEY,
    MIB,
    SECRETS,
    acl,
    entry,
    failover,
    incident,
    lun,
    node,
    pair,
    pair_spec,
    planned,
    running,
    snapshot,
    status,
    with_spec,
    written,
)


def test_each_host_gets_the_pair_from_its_own_side() -> None:
    specs = planned(snapshot(lun(), acl())).nodes
    one, two = specs["node1"], specs["node2"]
    assert [bond.addresses for bond in one.bonds] == [("10.10.25.131/24",), ("192.168.1.131/24",)]
    assert [bond.addresses for bond in two.bonds] == [("10.10.25.132/24",), ("192.168.1.132/24",)]
    assert [(link.device, link.peer_address) for link in one.heartbeat.links] == [
        ("bond1", "192.168.1.132"),
        ("bond0", "10.10.25.132"),
    ]
    assert [(host.name, host.disk, host.address) for host in one.replication.hosts] == [
        ("node1", "/dev/vdb", "192.168.1.131"),
        ("node2", "/dev/vdb", "192.168.1.132"),
    ]
    assert (one.virtual_ip.device, one.virtual_ip.address) == ("bond0", "10.10.25.136/24")
    # what must be alike on both, or they would not be a pair
    assert one.replication == two.replication
    assert one.replication.seed == one.heartbeat.preferred == two.heartbeat.preferred == "node1"
    # each has a Secret of its own, with the same key
    keys = [spec.heartbeat.authkeys_secret_ref.name for spec in (one, two)]
    assert keys == ["storagenode-node1", "storagenode-node2"]
    assert (one.luns, one.targets, one.pair_ref) == (two.luns, two.targets, two.pair_ref)
    assert one.luns == (entry(),)
    assert [(e.acl, e.addresses, e.state) for e in one.targets[0].initiators] == [
        ("esx", ("10.10.25.0/24",), "Present")
    ]


def test_a_pair_that_the_schema_should_have_refused_is_refused_and_not_written() -> None:
    spec = pair_spec()
    bare = msgspec.structs.replace(spec.nodes[1], addresses=(PairAddress(bond="bond0", address="10.10.25.132/24"),))
    plan = planned(snapshot(of=pair(spec=msgspec.structs.replace(spec, nodes=(spec.nodes[0], bare)))))
    assert (plan.pair.reason, plan.nodes) == (reasons.INVALID_SPEC, {})
    assert "node2 has no address on bond1" in plan.pair.message
    fast = msgspec.structs.replace(spec, replication=PairReplication(bond="bond1", resync_rate="quick"))
    assert planned(snapshot(of=pair(spec=fast))).pair.reason == reasons.INVALID_SPEC


def test_no_pair_means_no_documents() -> None:
    plan = planned(snapshot(lun(), acl(), of=None))
    assert (plan.pair, plan.nodes, plan.hold) == (None, {}, ())
    assert plan.luns["datastore1"].reason == plan.acls["esx"].reason == reasons.PAIR_NOT_FOUND


def test_a_pair_that_is_being_deleted_leaves_its_hosts_as_they_are() -> None:
    of = pair(deletion_timestamp="2026-03-01T12:00:00Z")
    plan = planned(snapshot(lun(), of=of, nodes=running(lun()).nodes))
    assert plan.nodes == {}
    assert not plan.luns["datastore1"].accepted


@pytest.mark.parametrize(
    ("formatted", "metadata", "expected"),
    [
        (("Absent", "Absent"), ("Initialized", "Initialized"), "Prepare"),
        (("Formatted", "Absent"), ("Initialized", "JustCreated"), "Prepare"),
        (("Formatted", "Unknown"), ("Initialized", "Unknown"), "Prepare"),
        (("Formatted", "Absent"), ("Initialized", "Initialized"), "Run"),
        (("Absent", "Formatted"), ("Initialized", "Initialized"), "Run"),
    ],
)
def test_the_service_starts_when_both_hosts_are_prepared(
    formatted: tuple[str, str], metadata: tuple[str, str], expected: str
) -> None:
    statuses = tuple(
        NodeStatus(filesystem=FilesystemStatus(state=f), replication=ReplicationStatus(metadata=m))
        for f, m in zip(formatted, metadata, strict=True)
    )
    plan = planned(snapshot(nodes=written(snapshot(), statuses)))
    assert {spec.service for spec in plan.nodes.values()} == {expected}


def test_the_service_never_goes_back_to_prepare() -> None:
    nodes = with_spec(written(snapshot(), (NodeStatus(), NodeStatus())), service="Run")
    assert {spec.service for spec in planned(snapshot(nodes=nodes)).nodes.values()} == {"Run"}


def test_one_host_alone_is_not_started() -> None:
    nodes = written(snapshot(), (status("Active"), status()))
    assert {spec.service for spec in planned(snapshot(nodes={"node1": nodes["node1"]})).nodes.values()} == {"Prepare"}


@pytest.mark.parametrize(
    ("states", "generated"),
    [
        (("Absent", "Absent"), True),
        (("Absent", "Present"), False),
        (("Absent", "Unknown"), False),
        (("Unknown", "Unknown"), False),
    ],
)
def test_keys_are_generated_only_when_both_hosts_say_that_they_have_none(
    states: tuple[str, str], generated: bool
) -> None:
    statuses = tuple(NodeStatus(heartbeat=HeartbeatStatus(authkeys=state)) for state in states)
    wanted = planned(snapshot(nodes=written(snapshot(), statuses))).authkeys
    assert (wanted is not None) is generated
    if wanted is not None:
        assert (wanted.namespace, wanted.name) == (SECRETS, "default.vmstore.heartbeat")


def test_no_keys_while_a_host_has_no_document_yet() -> None:
    nodes = written(snapshot(), (NodeStatus(heartbeat=HeartbeatStatus(authkeys="Absent")), None))
    assert planned(snapshot(nodes={"node1": nodes["node1"]})).authkeys is None


def test_incidents_are_delivered_once_their_record_is_there() -> None:
    moved = status("Active", incidents=(incident("b"), incident("a"), incident("c")))
    nodes = written(snapshot(), (status(), moved))
    specs = planned(snapshot(nodes=nodes, failovers=[failover("a"), failover("b"), failover("old")])).nodes
    assert specs["node2"].delivered_incidents == ("b", "a")
    assert specs["node1"].delivered_incidents == ()


def test_a_restored_pair_of_the_same_name_adopts_its_hosts() -> None:
    before = running(lun())
    restored = snapshot(lun(uid="new"), of=pair(uid="another"), nodes=before.nodes)
    plan = planned(restored)
    assert plan.pair.accepted
    assert {spec.pair_ref.uid for spec in plan.nodes.values()} == {"another"}
    assert {spec.service for spec in plan.nodes.values()} == {"Run"}
    assert plan.nodes["node1"].luns == before.nodes["node1"].node.spec.luns


def test_finalizers_are_put_on_what_is_accepted() -> None:
    plan = planned(snapshot(lun(held=False), lun("held"), acl(held=False), acl("lost", target="no", held=False)))
    assert [thing.metadata.name for thing in plan.hold] == ["datastore1", "esx"]


def test_a_bad_size_refuses_that_lun_alone() -> None:
    plan = planned(snapshot(lun("bad", size="1.5"), lun("good", size="1Gi")))
    assert plan.luns["bad"].reason == reasons.INVALID_SPEC
    assert [(each.name, each.size_bytes) for each in plan.nodes["node1"].luns] == [("good", 1024 * MIB)]


def test_the_documents_of_another_pair_say_nothing_about_ours() -> None:
    """Its hosts were part of a pair that is gone: they are taken over, its LUNs are not ours to name."""
    theirs = written(snapshot(lun("theirs")), (status("Active"), status()))
    moved = {
        name: node(
            name,
            msgspec.structs.replace(
                seen.node.spec,
                service="Run",
                pair_ref=msgspec.structs.replace(seen.node.spec.pair_ref, name="gone"),
            ),
            seen.node.status,
        )
        for name, seen in theirs.items()
    }
    plan = planned(snapshot(lun(), nodes=moved))
    assert plan.pair.accepted
    assert [each.name for each in plan.nodes["node1"].luns] == ["datastore1"]
    assert plan.nodes["node1"].service == "Run"
    assert str(KEY) == "default/vmstore"
