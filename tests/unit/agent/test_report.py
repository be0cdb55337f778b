"""The status: complete, valid by the schema, and still while nothing changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_crds import schema, views
from storagepair_node_agent import report
from storagepair_node_agent.actions import Verdict
from storagepair_node_agent.snapshot import ExportedTarget, LunFacts, TargetFacts
from unit.agent import agentbuilders as a

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
GOOD, WAITS, BAD = (
    Verdict(True, "Good", "good"),
    Verdict(False, "Late", "waits", waiting=True),
    Verdict(False, "Bad", "x"),
)
IQN = "iqn.2011-03.org.weithenn:iscsi.storage"


def lun(name="datastore1", **more):
    known = {"target": "default", "number": 1, "serial": "s1", "scsi_id": "6a", "size_bytes": 2**26}
    known |= {"path": f"/storage/luns/{name}/disk.img", "write_policy": "WriteThrough", "file_bytes": 2**26}
    return LunFacts(name=name, **{**known, **more})


def serving(**more):
    """The active node with one LUN and one session."""
    live = TargetFacts(
        7, IQN, {1: "/storage/luns/datastore1/disk.img"}, ("10.10.25.0/24",), ((1, 0, "iqn.x:i", "10.10.25.140"),)
    )
    known = {
        "virtual_ip": True,
        "port_open": True,
        "tgtd_running": True,
        "targets": (live,),
        "table_readable": True,
        "exported_targets": (ExportedTarget("default", 7, IQN, {"esx": ("10.10.25.0/24",)}),),
        "luns": (lun(),),
    }
    return a.snapshot(
        preflight=a.preflight(**a.SET_UP),
        drbd=a.drbd(up=True, metadata="Initialized", role="Primary", disk_state="UpToDate", connection="Connected"),
        filesystem=a.filesystem(mounted_at="/storage", formatted_record=True, size_bytes=1000, used_bytes=333),
        heartbeat=a.heartbeat(
            running=True, peer="active", authkeys="Present", links=(("bond1", "up"), ("bond0", "up"))
        ),
        service=a.service(**{**known, **more}),
    )


def status(snapshot, verdicts=None, previous=None, desired=None, incidents=()):
    return report.status(
        desired or a.desired(service="Run", generation=3),
        snapshot,
        verdicts or {"Network": GOOD},
        incidents,
        previous or views.NodeStatus(),
        now=NOW,
        agent_version="1.0",
    )


def of(seen, name):
    return next(c for c in seen.conditions if c.type == name)


class TestConditions:
    def test_ready_is_their_summary(self):
        assert of(status(a.snapshot()), "Ready").status == "True"
        seen = status(a.snapshot(), {"A": WAITS, "B": BAD})
        assert (of(seen, "Ready").status, of(seen, "Ready").reason) == ("False", "Bad")
        assert (of(seen, "A").status, of(seen, "B").status) == ("Unknown", "False")
        seen = status(a.snapshot(), {"A": WAITS, "B": GOOD})
        assert (of(seen, "Ready").status, of(seen, "Ready").reason) == ("False", "Late")

    @pytest.mark.parametrize(
        ("before", "verdict", "expected"),
        [
            ("True", GOOD, THEN),
            ("False", GOOD, NOW),
            ("False", BAD, THEN),
            ("Unknown", WAITS, THEN),
            ("True", BAD, NOW),
        ],
    )
    def test_the_time_moves_only_with_the_status(self, before, verdict, expected):
        known = views.Condition(type="A", status=before, reason="Other", last_transition_time=THEN)
        seen = report.condition("A", verdict, 5, [known], NOW)
        assert (seen.last_transition_time, seen.observed_generation) == (expected, 5)

    def test_a_refused_document(self):
        known = status(a.snapshot(), {"A": GOOD})
        first = report.refused(known, "spec.bonds: is required", 4, known, now=NOW)
        assert (of(first, "Ready").status, of(first, "Ready").reason) == ("False", "InvalidDocument")
        assert "spec.bonds: is required" in of(first, "Ready").message
        assert first.observed_generation == 3
        again = report.refused(known, "spec.bonds: is required", 4, first, now="2027-01-01T00:00:00Z")
        assert again == first


class TestContent:
    def test_the_active_node(self):
        seen = status(serving())
        assert seen.service == views.ServiceStatus(active=True, virtual_ip=True, port_open=True)
        assert seen.filesystem == views.FilesystemStatus(
            state="Formatted", mounted=True, size_bytes=1000, used_percent=35
        )
        assert seen.targets == (
            views.TargetStatus(
                name="default",
                iqn=IQN,
                sessions=(views.SessionStatus(initiator_name="iqn.x:i", address="10.10.25.140"),),
            ),
        )
        (only,) = seen.luns
        assert (only.name, only.state, only.number, only.serial) == ("datastore1", "Serving", 1, "s1")
        assert seen.bonds[0] == views.BondStatus(
            name="bond0",
            active_member="eth0",
            members=(views.BondMemberStatus(name="eth0", link="Up"), views.BondMemberStatus(name="eth1", link="Up")),
        )
        assert seen.unmanaged == ()

    @pytest.mark.parametrize(
        ("change", "state"),
        [
            ({"targets": ()}, "Ready"),
            ({"luns": (lun(file_bytes=None),)}, "Failed"),
        ],
    )
    def test_lun_states(self, change, state):
        assert status(serving(**change)).luns[0].state == state

    def test_an_absence_is_told_only_when_the_storage_proves_it(self):
        gone = views.NodeLUN(name="old", target="default", size_bytes=1, state="Absent")
        desired = a.desired(service="Run", luns=(gone,))
        assert [lun.state for lun in status(serving(luns=()), desired=desired).luns] == ["Absent"]
        assert status(serving(luns=(), table_readable=False), desired=desired).luns == ()

    def test_what_no_document_names(self):
        desired = a.desired(service="Run", luns=())
        assert any("datastore1" in name for name in status(serving(), desired=desired).unmanaged)

    def test_a_host_that_can_t_be_seen(self):
        blind = a.snapshot(preflight=None, network=None, drbd=None, filesystem=None, heartbeat=None, service=None)
        assert status(blind).replication == views.ReplicationStatus()

    @pytest.mark.parametrize("snapshot", [a.snapshot(), serving()])
    def test_is_what_the_schema_takes(self, snapshot):
        incident = views.Incident(
            id="1-node1", cause="NodeLost", to="node1", from_="node2", start_time=THEN, end_time=NOW, milliseconds=5
        )
        document = a.document()
        document["status"] = views.document(status(snapshot, {"A": GOOD, "B": WAITS, "C": BAD}, incidents=(incident,)))
        assert schema.validate(document) == ()


def test_at_rest_nothing_differs():
    first = status(serving(), {"A": GOOD, "B": WAITS})
    later = report.status(
        a.desired(service="Run", generation=3),
        serving(),
        {"A": GOOD, "B": WAITS},
        (),
        first,
        now="2027-01-01T00:00:00Z",
        agent_version="1.0",
    )
    assert later == first
    more = replace(serving().filesystem, used_bytes=334)
    assert status(replace(serving(), filesystem=more), {"A": GOOD, "B": WAITS}).filesystem == first.filesystem


JSON = st.recursive(
    st.integers() | st.text() | st.booleans() | st.lists(st.integers()),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.text(max_size=3), JSON, max_size=5)


def merged(target, patch):
    """RFC 7386, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merged(target.get(key), value)
    return target


@given(OBJECT, OBJECT)
def test_the_patch_makes_the_one_out_of_the_other(before, after):
    patch = report.merge_patch(before, after)
    assert merged(before, patch) == after
    assert report.merge_patch(after, after) == {}
