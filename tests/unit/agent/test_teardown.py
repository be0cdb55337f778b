"""The end of the pair on a host: in the safe order, only what is ours, never the data, for the right pair only."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_node_agent import hostfiles
from storagepair_node_agent.actions import MakeDirectory, RemoveFile, Run, WriteFile
from storagepair_node_agent.cycle import Cycle
from storagepair_node_agent.host import Host
from storagepair_node_agent.subsystems import bonds, drbd, drbd_files, teardown
from unit.agent import agentbuilders as a

IPFAIL = "/usr/libexec/heartbeat/ipfail"
UNITS = frozenset((hostfiles.PORT_UNIT, hostfiles.TGT_UNIT, hostfiles.HEARTBEAT_UNIT, hostfiles.GUARDIAN_UNIT))
UID = a.desired().spec.pair_ref.uid
RECORDED = a.preflight(**a.SET_UP)


def desired(service="Removed", **more):
    return a.desired(service=service, **more)


def installed(**more):
    """All files and units of the service, Heartbeat up and seen by its peer."""
    wanted = a.desired(service="Run")
    files = (*hostfiles.service_files(wanted), *hostfiles.heartbeat_files(wanted, IPFAIL))
    known = {"running": True, "files": {file.path: "x" for file in files}, "authkeys": "Present", "peer": "active"}
    return a.heartbeat(**{**known, "units": UNITS, **more})


def quiet(**more):
    """The same after Heartbeat and guardian are stopped."""
    known = {"running": False, "guardian": False, "peer": "", "units": frozenset((hostfiles.PORT_UNIT, "tgt.service"))}
    return installed(**{**known, **more})


def mirror(**more):
    known = {"up": True, "role": "Secondary", "peer_role": "Secondary", "disk_state": "UpToDate"}
    known |= {"connection": "Connected", "config": "resource", "unit": "unit", "unit_enabled": True}
    return a.drbd(**{**known, "metadata": "Initialized", **more})


def host(**parts):
    known = {"preflight": RECORDED, "heartbeat": installed(), "drbd": mirror()}
    known["service"] = a.service(tgtd_running=True, port_table=True)
    return a.snapshot(**{**known, **parts})


def serving(**parts):
    known = {"drbd": mirror(role="Primary"), "filesystem": a.filesystem(mounted_at="/storage", formatted_record=True)}
    known["service"] = a.service(tgtd_running=True, port_table=True, started=True, virtual_ip=True, port_open=True)
    return host(**{**known, **parts})


BARE = {"heartbeat": a.heartbeat(guardian=False), "drbd": a.drbd(), "service": a.service(port_table=False)}


def commands(outcome):
    return [" ".join(step.argv) for action in outcome.actions for step in action.steps if isinstance(step, Run)]


def test_the_standby_stops_the_guardian_before_heartbeat_and_a_boot_brings_neither_back():
    outcome = teardown.plan(desired("Stopped"), host())
    assert a.names(outcome) == ["teardown.stop"]
    assert commands(outcome) == [
        "systemctl disable storagepair-guardian.service heartbeat.service",
        f"flock -w 90 {hostfiles.LOCK} systemctl stop storagepair-guardian.service",
        "systemctl stop heartbeat.service",
    ]
    assert not any(isinstance(step, WriteFile) for action in outcome.actions for step in action.steps)


def test_who_serves_waits_for_its_peer_and_then_leaves_no_tale_of_a_move():
    outcome = teardown.plan(desired("Stopped"), serving())
    assert (outcome.verdict.reason, outcome.actions) == ("PeerRuns", ())
    outcome = teardown.plan(desired("Stopped"), serving(heartbeat=installed(peer="dead")))
    (stop,) = outcome.actions
    intent, last = stop.steps[-2:]
    assert isinstance(intent, WriteFile)
    assert (intent.path, intent.content.split()[0]) == ("/run/storagepair/intent", "Teardown")
    assert last.argv == ("systemctl", "stop", "heartbeat.service")


def test_what_heartbeat_left_behind_is_released_by_the_resource_script():
    outcome = teardown.plan(desired("Stopped"), serving(heartbeat=quiet()))
    assert commands(outcome) == ["/etc/ha.d/resource.d/storagepair stop"]


def test_stopped_keeps_the_mirror_and_all_files():
    outcome = teardown.plan(desired("Stopped"), host(heartbeat=quiet()))
    assert (outcome.verdict.ready, outcome.verdict.reason, outcome.actions) == (True, "Stopped", ())


def test_removed_takes_tgtd_then_the_mirror_then_the_files():
    snap = host(heartbeat=quiet())
    outcome = teardown.plan(desired(), snap)
    assert commands(outcome) == ["systemctl disable --now tgt.service"]
    snap = a.changed(snap, "heartbeat", units=frozenset((hostfiles.PORT_UNIT,)))
    snap = a.changed(snap, "service", tgtd_running=False)
    outcome = teardown.plan(desired(), snap)
    assert commands(outcome) == ["systemctl disable --now storagepair-drbd.service"]
    snap = a.changed(snap, "drbd", unit_enabled=False)
    assert commands(teardown.plan(desired(), snap)) == ["drbdadm down storagepair"]
    snap = a.changed(snap, "drbd", up=False)
    assert a.names(teardown.plan(desired(), snap)) == ["teardown.remove-mirror-files"]
    snap = a.changed(snap, "drbd", config=None, unit=None)
    outcome = teardown.plan(desired(), snap)
    assert a.names(outcome) == ["teardown.remove-files"]
    removed = {step.path for action in outcome.actions for step in action.steps if isinstance(step, RemoveFile)}
    assert {hostfiles.AUTHKEYS, hostfiles.HA_CF, hostfiles.TGT_DROP_IN, hostfiles.RESOURCE_SCRIPT} <= removed
    outcome = teardown.plan(desired(), host(**BARE))
    assert (outcome.verdict.ready, outcome.verdict.reason, outcome.actions) == (True, "Removed", ())


def test_a_preparation_that_was_cut_short_is_let_go_first():
    snap = host(
        heartbeat=a.heartbeat(guardian=False),
        drbd=mirror(role="Primary"),
        filesystem=a.filesystem(mounted_at="/run/storagepair/filesystem", formatting_record=True),
    )
    outcome = teardown.plan(desired(), snap)
    assert commands(outcome) == ["umount /run/storagepair/filesystem", "drbdadm secondary storagepair"]


def test_a_device_that_somebody_holds_is_not_pulled_away():
    snap = host(
        heartbeat=quiet(),
        drbd=mirror(role="Primary"),
        filesystem=a.filesystem(mounted_at="/mnt/x", formatted_record=True),
    )
    outcome = teardown.plan(desired(), snap)
    assert (outcome.verdict.reason, outcome.actions) == ("StillHeld", ())
    assert "/mnt/x" in outcome.verdict.message


def test_what_is_not_ours_stays():
    """A Heartbeat of somebody else's, tgtd with other targets, another DRBD resource."""
    foreign = (hostfiles.HA_CF, hostfiles.HARESOURCES, hostfiles.AUTHKEYS)
    heart = a.heartbeat(running=True, guardian=False, units=UNITS, files=dict.fromkeys(foreign, "x"), foreign=foreign)
    other = a.drbd(minor_holder="r0", up=True, role="Primary", config=None)
    outcome = teardown.plan(desired(), host(heartbeat=heart, drbd=other, service=a.service(port_table=False)))
    assert (outcome.verdict.ready, outcome.actions) == (True, ())
    target = a.facts.TargetFacts(7, "iqn.2001-04.com.example:theirs", {}, ())
    snap = host(heartbeat=quiet(), service=a.service(tgtd_running=True, port_table=True, targets=(target,)))
    assert a.names(teardown.plan(desired(), snap)) == ["teardown.mirror-down"]


@pytest.mark.parametrize("service", ["Stopped", "Removed"])
@pytest.mark.parametrize(
    "recorded",
    [
        {"recorded_pair": "default/vmstore", "recorded_disk": "/dev/vdb", "recorded_uid": "another"},
        {"recorded_pair": "default/vmstore", "recorded_disk": "/dev/vdb", "recorded_uid": None},
        {"recorded_pair": "other/vmstore", "recorded_disk": "/dev/vdb", "recorded_uid": UID},
        {"recorded_pair": None},
    ],
)
def test_a_document_that_ends_another_pair_than_the_one_on_record_is_refused(service, recorded):
    outcome = teardown.plan(desired(service), serving(preflight=a.preflight(**recorded)))
    assert (outcome.verdict.reason, outcome.verdict.waiting, outcome.actions) == ("OtherPair", False, ())
    assert "storagepair.dev/abandon" in outcome.verdict.message


def test_a_document_for_another_machine_is_refused():
    outcome = teardown.plan(desired("Removed"), host(preflight=replace(RECORDED, uname="node9")))
    assert (outcome.verdict.reason, outcome.actions) == ("WrongNode", ())


@pytest.mark.parametrize("part", ["preflight", "drbd", "filesystem", "heartbeat", "service"])
def test_what_can_not_be_seen_is_not_taken_for_gone(part):
    outcome = teardown.plan(desired(), host(**{part: None}))
    assert (outcome.verdict.ready, outcome.verdict.reason, outcome.actions) == (False, "Unobserved", ())


TRUTH = st.booleans()


@given(
    TRUTH,
    TRUTH,
    TRUTH,
    TRUTH,
    TRUTH,
    st.sampled_from(["Primary", "Secondary"]),
    st.sampled_from(["Stopped", "Removed"]),
)
def test_no_step_touches_the_disk_the_record_or_the_bonds(running, started, up, tgtd, guardian, role, service):
    snap = host(
        heartbeat=installed(running=running, guardian=guardian, peer="dead"),
        drbd=mirror(up=up, role=role if up else ""),
        service=a.service(started=started, tgtd_running=tgtd),
        filesystem=a.filesystem(formatted_record=True),
    )
    for action in teardown.plan(desired(service), snap).actions:
        for step in (*action.steps, *action.rollback):
            words = step.describe()
            assert not any(word in words for word in ("/dev/vdb", "create-md", "wipe", "mkfs", "--force", "ip link"))
            if isinstance(step, RemoveFile | WriteFile | MakeDirectory):
                assert not step.path.startswith(("/var/lib/storagepair", bonds.BATCH))
                assert bonds.UNIT not in step.path
                assert not step.path.endswith("network-up")
            if service == "Stopped":
                assert drbd_files.RESOURCE + ".res" not in words


def test_the_cycle_asks_nobody_else_while_the_document_ends_the_pair(tmp_path):
    outcomes = Cycle(Host(tmp_path)).plan(desired("Stopped"), host(**BARE))
    assert list(outcomes) == ["Teardown"]


def test_the_pair_s_uid_is_noted_when_a_document_of_a_new_object_is_carried_out():
    """As after a namespace was restored: from then on only a deletion of that object counts."""
    snap = a.snapshot(preflight=a.preflight(**{**a.SET_UP, "recorded_uid": "earlier"}), drbd=mirror())
    outcome = drbd.plan(a.desired(service="Run"), snap)
    assert "drbd.note-pair" in a.names(outcome)
    (step,) = next(action for action in outcome.actions if action.name == "drbd.note-pair").steps
    assert UID in step.content
    unknown = a.snapshot(preflight=a.preflight(), drbd=mirror())
    assert "drbd.note-pair" not in a.names(drbd.plan(a.desired(service="Run"), unknown))


def test_a_preparation_s_steps_keep_the_uid_on_record():
    (action,) = drbd.plan(a.desired(), a.snapshot()).actions[1:2]
    assert action.name == "drbd.create-metadata"
    assert UID in action.steps[0].content
    assert msgspec.json.decode(action.steps[0].content)["uid"] == UID
