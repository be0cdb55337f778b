"""The file system: made once, by the seed, only where nothing is; every step can be the one where the power goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_node_agent.subsystems import filesystem
from unit.agent import agentbuilders as a

GOOD = {"metadata": "Initialized", "up": True, "disk_state": "UpToDate", "role": "Primary", "peer_role": "Secondary"}
FRESH = {"signature": "", "zeroed": True}
OURS = {"signature": "ext4", "label": "storagepair"}
WORKPLACE = filesystem.WORKPLACE


def plan(seen=None, mirror=None, *, node="node1", service="Prepare", **parts):
    snapshot = a.snapshot(
        preflight=a.preflight(**a.SET_UP),
        drbd=a.drbd(**{**GOOD, **(mirror or {})}),
        filesystem=a.filesystem(**(seen or {})),
        **parts,
    )
    return filesystem.plan(a.desired(node, service), snapshot)


@pytest.mark.parametrize(
    ("seen", "mirror", "expected"),
    [
        ({}, {"role": "Secondary"}, ["filesystem.promote"]),
        (FRESH, {}, ["filesystem.make"]),
        (OURS, {}, ["filesystem.mount"]),
        ({**OURS, "formatting_record": True}, {}, ["filesystem.mount"]),
        ({"mounted_at": WORKPLACE}, {}, ["filesystem.make-folders"]),
        (
            {"mounted_at": WORKPLACE, "formatted_record": True},
            {},
            ["filesystem.unmount", "filesystem.demote"],
        ),
        ({"formatted_record": True}, {}, ["filesystem.demote"]),
        ({"formatted_record": True}, {"role": "Secondary"}, []),
        # the ruins of our own mkfs
        ({"signature": "", "formatting_record": True}, {}, ["filesystem.make"]),
        ({**OURS, "complete": False, "formatting_record": True}, {}, ["filesystem.make"]),
    ],
)
def test_the_chain_on_the_seed(seen, mirror, expected):
    assert a.names(plan(seen, mirror)) == expected


@pytest.mark.parametrize(
    "seen",
    [
        {"signature": "", "zeroed": False},
        {"signature": "xfs", "label": "storagepair"},
        {"signature": "ext4", "label": "home"},
        {"signature": "ext4", "label": "home", "formatting_record": True},
        {"signature": "LVM2_member"},
        {"signature": "gpt"},
        {**OURS, "complete": False},
    ],
)
def test_what_storagepair_has_not_made_is_never_overwritten(seen):
    outcome = plan(seen)
    assert (outcome.actions, outcome.verdict.reason) == ((), "ForeignData")


SEEN = st.fixed_dictionaries(
    {
        "signature": st.sampled_from([None, "", "ext4", "ext3", "xfs", "gpt"]),
        "label": st.sampled_from(["", "storagepair", "home"]),
        "complete": st.booleans(),
        "zeroed": st.booleans(),
        "mounted_at": st.sampled_from(["", WORKPLACE, "/storage", "/mnt"]),
        "formatted_record": st.booleans(),
        "formatting_record": st.booleans(),
    }
)
MIRROR = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["Primary", "Secondary", ""]),
        "peer_role": st.sampled_from(["Primary", "Secondary", "Unknown"]),
        "disk_state": st.sampled_from(["UpToDate", "Inconsistent", "Outdated", ""]),
        "suspended": st.booleans(),
    }
)


@given(SEEN, MIRROR, st.sampled_from(["node1", "node2"]), st.sampled_from(["Prepare", "Run"]), st.booleans())
def test_mkfs_needs_every_proof(seen, mirror, node, service, running):
    outcome = plan(seen, mirror, node=node, service=service, heartbeat=a.heartbeat(running=running))
    if "filesystem.make" not in a.names(outcome):
        return
    assert (node, service, running) == ("node1", "Prepare", False)
    assert (mirror["role"], mirror["disk_state"], mirror["suspended"]) == ("Primary", "UpToDate", False)
    assert not seen["formatted_record"]
    assert not seen["mounted_at"]
    empty = seen["signature"] == "" and seen["zeroed"]
    ruin = seen["formatting_record"] and (seen["signature"] == "" or not seen["complete"])
    assert empty or ruin


@given(SEEN, MIRROR, st.sampled_from(["node1", "node2"]), st.sampled_from(["Prepare", "Run"]))
def test_never_a_finger_on_it_once_heartbeat_runs(seen, mirror, node, service):
    for facts in (a.heartbeat(running=True), a.heartbeat(authkeys="Present"), None):
        assert plan(seen, mirror, node=node, service=service, heartbeat=facts).actions == ()


def test_the_intent_is_recorded_before_mkfs_and_the_deed_after_the_folders():
    intent, mkfs = plan(FRESH).actions[0].steps
    assert '"formatting": true' in intent.content
    assert '"formatted": false' in intent.content
    assert mkfs.argv[0] == "mkfs.ext4"
    *_, sync, done = plan({"mounted_at": WORKPLACE}).actions[0].steps
    assert sync.argv == ("sync", "--file-system", WORKPLACE)
    assert '"formatted": true' in done.content


def test_the_other_node_only_lets_go():
    assert plan(FRESH, node="node2", mirror={"role": "Secondary"}).actions == ()
    assert a.names(plan({}, node="node2")) == ["filesystem.demote"]
    assert plan({}, {"role": "Secondary"}, node="node2").verdict.ready


def test_waits():
    assert plan(FRESH, {"disk_state": "Inconsistent"}).verdict.reason == "WaitingForReplication"
    assert plan(FRESH, {"role": "Secondary", "peer_role": "Primary"}).verdict.reason == "PeerIsPrimary"
    assert plan({"mounted_at": "/mnt"}).verdict.reason == "MountedElsewhere"


def test_nothing_is_made_once_the_service_shall_run():
    outcome = plan(FRESH, service="Run")
    assert (outcome.actions, outcome.verdict.reason) == ((), "NotRecorded")


def test_a_leftover_primary_is_demoted_before_heartbeat_is_set_up():
    assert a.names(plan({"formatted_record": True}, service="Run")) == ["filesystem.demote"]
