"""Targets, LUNs and ACLs: from the document to the table, from the table to tgtd; what is not named stays."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storagepair_crds import views
from storagepair_node_agent import convergence, exports, identity
from storagepair_node_agent.hostfiles import EXPORTS, PORT, WITH_LOCK
from storagepair_node_agent.snapshot import TargetFacts
from storagepair_node_agent.subsystems import targets
from unit.agent import agentbuilders as a
from unit.agent.servingmodel import IQN, MIB, Model, desired, entry, lun

# ---------------------------------------------------------------------------- the way there


def test_from_nothing_to_a_served_lun_and_then_nothing_more():
    model = Model()
    verdict = model.converge(desired(lun()))
    assert (verdict.ready, verdict.reason) == (True, "Serving")
    assert model.serving() == {"datastore1": 1}
    assert model.target[1] == ["10.10.25.0/24"]
    assert model.port_open
    assert model.plan(desired(lun())).actions == ()


def test_the_identity_is_stored_before_the_lun_is_exported_and_the_table_before_tgtd():
    model = Model()
    model.converge(desired(lun()))
    verbs = [argv[2] if argv[0] == WITH_LOCK else argv[1] for argv in model.ran]
    assert verbs.index("make-lun") < verbs.index("add-lun")
    assert json.loads(model.files["datastore1"][0])["serial"] in model.table


def test_write_through_is_the_default_and_flags_follow_the_policy():
    model = Model()
    model.converge(desired(lun()))
    assert model.target[0][1].flags == "sync"
    model.ran.clear()
    model.converge(desired(lun(write_policy="WriteBack")))
    assert model.target[0][1].flags == ""
    assert [argv[2] for argv in model.ran if argv[1] == EXPORTS] == ["replace-lun"]


def test_an_empty_target_is_served_too():
    model = Model()
    assert model.converge(desired(initiators=())).ready
    assert model.port_open
    assert model.target == ({}, [])


def test_tgtd_that_came_back_empty_gets_everything_again_before_the_port_opens():
    model = Model()
    model.converge(desired(lun(), lun("b")))
    before = dict(model.target[0])
    model.tgtd, model.port_open = {}, False
    model.ran.clear()
    model.converge(desired(lun(), lun("b")))
    assert model.target[0] == before
    assert model.ran[-1] == (WITH_LOCK, PORT, "open")


def test_a_namespace_restored_on_running_hosts_changes_no_number_and_no_serial():
    model = Model()
    model.converge(desired(lun("a"), lun("b")))
    table, model.ran = model.table, []
    model.converge(desired())  # the documents are gone
    model.converge(desired(lun("b"), lun("a")))  # and come back in another order
    assert (model.table, model.ran) == (table, [])


def test_a_retained_lun_comes_back_as_the_same_disk():
    model = Model()
    model.converge(desired(lun("a"), lun("b")))
    unit = model.target[0][2]
    model.converge(desired(lun("a"), lun("b", state="Absent")))
    assert model.serving() == {"a": 1}
    model.converge(desired(lun("a"), lun("c"), lun("b", state="Absent")))
    assert model.serving()["c"] == 3  # number 2 is kept for the retained one
    model.converge(desired(lun("a"), lun("c"), lun("b")))
    assert model.target[0][2] == unit


def test_a_lun_deleted_and_made_again_is_another_disk():
    model = Model()
    model.converge(desired(lun()))
    first = model.target[0][1].scsi_id
    model.converge(desired(lun(state="Absent", deletion_policy="Delete")))
    assert model.files == {}
    model.converge(desired(lun()))
    assert model.target[0][1].scsi_id != first


def test_a_requested_number_is_given():
    model = Model()
    model.converge(desired(lun("a", number=7), lun("b")))
    assert model.serving() == {"a": 7, "b": 1}


# ---------------------------------------------------------------------------- absence is no instruction


def test_what_the_document_does_not_name_stays_and_is_told():
    model = Model()
    model.converge(desired(lun("a"), lun("b"), initiators=(entry("x", "10.0.0.0/8"), entry("y"))))
    model.ran.clear()
    wanted = desired(lun("a"), initiators=(entry("y"),))
    assert model.converge(wanted).ready
    assert model.ran == []
    assert convergence.unmanaged(wanted, model.facts()) == ("lun b", "initiators x of target default")


def test_retain_keeps_the_file_and_delete_takes_it_after_the_export():
    model = Model()
    model.converge(desired(lun("a"), lun("b")))
    model.ran.clear()
    model.converge(desired(lun("a", state="Absent"), lun("b", state="Absent", deletion_policy="Delete")))
    assert set(model.files) == {"a"}
    assert model.serving() == {}
    order = [argv[2] if argv[0] == WITH_LOCK else argv[1] for argv in model.ran]
    assert order == ["remove-lun", "remove-lun", "put", "delete-lun"]


def test_a_folder_of_another_pair_is_neither_served_nor_deleted():
    model = Model()
    foreign = identity.document(identity.mint("e", "other/pair", "a", "default", 1))
    model.files["a"] = (foreign, MIB)
    verdict = model.converge(desired(lun("a")))
    assert "other/pair" in verdict.message
    model.converge(desired(lun("a", state="Absent", deletion_policy="Delete")))
    assert model.files == {"a": (foreign, MIB)}


def test_a_file_without_an_identity_is_not_touched():
    model = Model()
    model.files["a"] = ("", MIB)
    verdict = model.converge(desired(lun("a")))
    assert (verdict.ready, verdict.waiting) == (False, False)
    assert "identity.json" in verdict.message
    assert model.serving() == {}


# ---------------------------------------------------------------------------- who may log in


def test_addresses_are_given_to_tgtd_as_it_can_match_them():
    model = Model()
    model.converge(desired(initiators=(entry("a", "10.10.25.140/32", "10.10.25.9/24"),)))
    assert model.target[1] == ["10.10.25.140", "10.10.25.0/24"]


def test_a_revocation_closes_the_sessions_that_no_other_entry_admits():
    model = Model()
    both = (entry("net"), entry("host", "10.9.9.9"))
    model.converge(desired(initiators=both))
    model.sessions = [(1, 0, "iqn.x:a", "10.10.25.140"), (2, 0, "iqn.x:b", "10.9.9.9")]
    model.converge(desired(initiators=(entry("net", state="Absent"), both[1])))
    assert model.target[1] == ["10.9.9.9"]
    assert [session[3] for session in model.sessions] == ["10.9.9.9"]


def test_a_changed_entry_takes_away_what_it_no_longer_names_but_nothing_shared():
    model = Model()
    model.converge(desired(initiators=(entry("a", "10.1.0.0/16", "10.2.0.0/16"), entry("b", "10.2.0.0/16"))))
    model.converge(desired(initiators=(entry("a", "10.3.0.0/16"), entry("b", "10.2.0.0/16"))))
    assert sorted(model.target[1]) == ["10.2.0.0/16", "10.3.0.0/16"]


def test_an_acl_that_a_person_bound_stays_counts_and_is_told():
    model = Model()
    model.converge(desired())
    model.target[1].append("192.168.7.7")
    model.sessions = [(1, 0, "iqn.x:a", "192.168.7.7")]
    model.ran.clear()
    model.converge(desired())
    assert model.ran == []
    assert convergence.unmanaged(desired(), model.facts()) == (f"initiator address 192.168.7.7 of {IQN} in tgtd",)


# ---------------------------------------------------------------------------- what can't be done


@pytest.mark.parametrize(
    ("luns", "words"),
    [
        ((lun("big", 200 * MIB),), ["lun big", "209715200", "/storage", "node1"]),
        ((lun("a", number=1), lun("b", number=1)), ["lun b", "number 1", "LUN a"]),
        ((views.NodeLUN(name="a", target="nowhere", size_bytes=MIB),), ["lun a", "nowhere"]),
    ],
)
def test_it_is_said_with_what_where_and_how_much_and_nothing_is_left_half_made(luns, words):
    model = Model()
    verdict = model.converge(desired(*luns))
    assert (verdict.ready, verdict.reason) == (False, "CannotExport")
    assert all(word in verdict.message for word in words), verdict.message
    assert set(model.files) <= {"a"}


def test_one_lun_without_room_does_not_keep_the_others_away():
    model = Model()
    model.converge(desired(lun("big", 90 * MIB), lun("a"), lun("huge", 90 * MIB)))
    assert model.serving() == {"big": 1, "a": 2}


def test_what_is_minted_can_t_be_changed_by_a_document():
    model = Model()
    model.converge(desired(lun("a", number=3)))
    model.ran.clear()
    for change in ({"number": 4}, {"size": 2 * MIB}):
        verdict = model.converge(desired(lun("a", **change)))
        assert "lun a" in verdict.message
    assert model.ran == []


def test_a_lost_file_is_told_and_not_made_anew():
    model = Model()
    model.converge(desired(lun("a"), lun("b")))
    del model.files["a"]
    model.tgtd, model.port_open = {}, False
    verdict = model.converge(desired(lun("a"), lun("b")))
    assert "is gone" in verdict.message
    assert model.serving() == {"b": 2}
    assert "a" not in model.files


def test_the_iqn_of_a_served_target_can_t_change():
    model = Model()
    model.converge(desired())
    wanted = desired()
    spec = msgspec.structs.replace(wanted.spec, targets=(views.NodeTarget(name="default", iqn=f"{IQN}2"),))
    verdict = model.converge(replace(wanted, spec=spec))
    assert "target default" in verdict.message
    assert next(iter(model.tgtd.values()))[0] == IQN


# ---------------------------------------------------------------------------- when nothing may be done


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"transition": True}, "Transition"),
        ({"storage_seen": False, "table_readable": False, "luns": (), "exported_targets": ()}, "Unobserved"),
        ({"table_damaged": "its last line is missing", "table_readable": False}, "TableDamaged"),
    ],
)
def test_hands_off(more, reason):
    model = Model()
    facts = model.facts()
    snapshot = a.snapshot(
        drbd=a.drbd(up=True, role="Primary"),
        filesystem=a.filesystem(mounted_at="/storage"),
        service=replace(facts, **more),
    )
    outcome = targets.plan(desired(lun()), snapshot)
    assert (outcome.verdict.reason, outcome.actions) == (reason, ())


@pytest.mark.parametrize(
    ("drbd", "filesystem", "service", "reason"),
    [
        ({"role": "Secondary"}, {}, {}, "Standby"),
        ({"role": "Primary"}, {"mounted_at": "/storage"}, {}, "NotStarted"),
        ({"role": "Primary", "suspended": True}, {"mounted_at": "/storage"}, {"started": True}, "Suspended"),
        ({"role": "Secondary"}, {}, {"tgtd_running": False}, "TgtdNotRunning"),
        ({"role": "Secondary"}, {}, {"targets": (TargetFacts(1, IQN, {}, ()),)}, "LeftoverTargets"),
    ],
)
def test_only_the_active_node_changes_anything(drbd, filesystem, service, reason):
    snapshot = a.snapshot(
        drbd=a.drbd(up=True, **drbd),
        filesystem=a.filesystem(**filesystem),
        service=a.service(**{"tgtd_running": True, **service}),
    )
    outcome = targets.plan(desired(lun()), snapshot)
    assert (outcome.verdict.reason, outcome.actions) == (reason, ())


def test_nothing_in_the_preparation_and_nothing_unseen():
    assert targets.plan(desired(lun(), service="Prepare"), a.snapshot()).actions == ()
    assert targets.plan(desired(lun()), a.snapshot(service=None)).actions == ()


# ---------------------------------------------------------------------------- wherever it breaks off

NAMES = st.sampled_from(["a", "b", "c", "d"])
LUNS = st.dictionaries(
    NAMES,
    st.fixed_dictionaries(
        {
            "state": st.sampled_from(["Present", "Present", "Absent"]),
            "deletion_policy": st.sampled_from(["Retain", "Delete"]),
            "write_policy": st.sampled_from(["WriteThrough", "WriteBack"]),
        }
    ),
    max_size=4,
)
ACLS = st.dictionaries(
    st.sampled_from(["x", "y"]),
    st.tuples(
        st.lists(st.sampled_from(["10.0.0.0/8", "10.10.25.0/24", "10.10.25.140"]), min_size=1, unique=True),
        st.sampled_from(["Present", "Absent"]),
    ),
    max_size=2,
)
DOCUMENTS = st.builds(
    lambda luns, acls: desired(
        *(lun(name, **more) for name, more in luns.items()),
        initiators=[entry(name, *addresses, state=state) for name, (addresses, state) in acls.items()],
    ),
    LUNS,
    ACLS,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(DOCUMENTS, st.integers(-1, 8), st.booleans()), min_size=1, max_size=4))
def test_after_any_documents_failures_and_restarts_of_tgtd_it_serves_what_was_said_last(story):
    model = Model()
    present: dict[str, bool] = {}
    for document, broken, restarted in story:
        model.broken = broken
        model.converge(document)
        if restarted:
            model.tgtd, model.port_open = {}, False
            model.converge(document)
        present |= {lun.name: lun.state == "Present" for lun in document.spec.luns}
    assert set(model.serving()) == {name for name, there in present.items() if there}
    table = exports.parse(model.table, "/storage")
    assert {lun.number for lun in table.luns} == set(model.target[0])
    assert set(model.target[1]) == set(convergence.addresses(table.targets[0]))
    assert len({unit.scsi_id for unit in model.target[0].values()}) == len(model.target[0])
