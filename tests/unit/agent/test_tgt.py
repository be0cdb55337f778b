"""What tgtd says of itself, read from its real output."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from storagepair_node_agent import tgt
from unit.agent import agentbuilders as a

REAL = (a.DATA / "tgt" / "show-target.txt").read_text()
WITH_SESSION = (a.DATA / "tgt" / "show-target-session.txt").read_text()


def test_a_target_with_its_luns_and_acls():
    (target,) = tgt.parse(REAL)
    assert (target.tid, target.iqn) == (1, "iqn.2011-03.org.weithenn:iscsi.storage")
    assert target.luns == {1: "/root/x"}  # LUN 0 is the controller
    assert target.acls == ("10.10.25.0/24", "notanip", "300.1.1.1")
    assert target.sessions == ()


def test_a_session_with_the_numbers_that_close_it():
    (target,) = tgt.parse(WITH_SESSION)
    assert target.sessions == ((1, 0, "iqn.1993-08.org.debian:01:b14d32e6b26", "10.10.25.140"),)


def test_a_unit_with_identity_and_flags():
    (unit,) = tgt.parse(WITH_SESSION)[0].units
    assert (unit.scsi_id, unit.serial) == ("60253504343110a600239cc255bb8b5d", "4343110a600239cc255b")
    assert (unit.flags, unit.online, unit.path) == ("sync", True, "/storage/luns/datastore1/disk.img")


def test_several_targets_keep_their_own_parts():
    both = tgt.parse(WITH_SESSION + REAL)
    assert [len(target.acls) for target in both] == [1, 3]
    assert [len(target.sessions) for target in both] == [1, 0]


def test_accounts_are_no_acls():
    (target,) = tgt.parse(REAL)
    assert "weithenn" not in target.acls


@given(st.lists(st.sampled_from([*WITH_SESSION.splitlines(), *REAL.splitlines(), "", "LUN: x", "Target x: y", "☃"])))
def test_any_order_of_lines_is_survived(lines):
    for target in tgt.parse("\n".join(lines)):
        assert target.tid >= 0


@given(st.text())
def test_any_text_is_survived(text):
    tgt.parse(text)
