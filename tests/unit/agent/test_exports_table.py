"""The export table: what is written is what is read, and damage is seen."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_node_agent import exports, identity
from storagepair_node_agent.snapshot import ExportedTarget

NAME = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
ADDRESS = st.sampled_from(["10.10.25.0/24", "10.10.25.140", "192.168.0.0/16"])


def lun(name, target, number, policy="WriteThrough", entropy="e"):
    minted = identity.mint(entropy, "ns/pair", name, target, number)
    found = identity.stored(name, identity.document(minted), None)
    return identity.adopted(found, 4096 * number, f"/storage/{exports.image(name)}", policy)


@st.composite
def tables(draw):
    names = draw(st.lists(NAME, unique=True, max_size=3))
    targets = tuple(
        ExportedTarget(
            name,
            1000 + n,
            f"iqn.2011-03.org.weithenn:{name}",
            draw(st.dictionaries(NAME, st.lists(ADDRESS, min_size=1, unique=True).map(tuple), max_size=3)),
        )
        for n, name in enumerate(names)
    )
    luns = draw(st.lists(NAME, unique=True, max_size=4)) if names else []
    policies = st.sampled_from(["WriteThrough", "WriteBack"])
    return exports.Table(
        targets, tuple(lun(name, draw(st.sampled_from(names)), n, draw(policies)) for n, name in enumerate(luns, 1))
    )


@given(tables())
def test_what_is_written_is_read_again(table):
    assert exports.parse(exports.render(table), "/storage") == table


@given(tables(), st.data())
def test_a_torn_table_is_refused(table, data):
    text = exports.render(table)
    cut = data.draw(st.integers(0, len(text) - 2))
    with pytest.raises(exports.TableDamaged):
        exports.parse(text[:cut], "/storage")


@given(st.text())
def test_a_stranger_s_table_is_refused_or_understood(text):
    with contextlib.suppress(exports.TableDamaged):
        exports.parse(text, "/storage")


def test_luns_come_before_the_acls_that_let_anybody_in():
    target = ExportedTarget("default", 1000, "iqn.2011-03.x:y", {"esx": ("10.10.25.0/24",)})
    kinds = [
        line.split()[0] for line in exports.render(exports.Table((target,), (lun("a", "default", 1),))).splitlines()
    ]
    assert kinds == ["target", "lun", "acl", "end"]


def test_write_through_is_tgtd_s_sync_and_write_back_is_nothing():
    assert exports.flags(lun("a", "default", 1)) == "sync"
    assert exports.flags(lun("a", "default", 1, "WriteBack")) == "-"


# ---------------------------------------------------------------------------- identity


def test_an_identity_is_naa_6_and_fits_scsi_s_fields():
    minted = identity.mint("e", "ns/pair", "lun", "default", 255)
    assert len(minted.scsi_id) == 32
    assert minted.scsi_id.startswith("6025350")
    assert int(minted.scsi_id, 16)
    assert len(minted.vendor_id) == 8
    assert len(minted.product_id) <= 16


def test_the_first_8_bytes_of_the_product_differ_between_luns():
    products = {identity.mint("e", "ns/pair", f"lun{n}", "default", n).product_id[:8] for n in range(200)}
    assert len(products) == 200


def test_a_lun_made_again_under_its_name_is_another_disk():
    first, second = (identity.mint(entropy, "ns/pair", "lun", "default", 1) for entropy in "ab")
    assert first.scsi_id != second.scsi_id
    assert first.serial != second.serial


@pytest.mark.parametrize(
    ("field", "value"),
    [("scsi_id", "6 7"), ("serial", "a,removable=1"), ("product_id", "x" * 17), ("vendor_id", ""), ("number", 0)],
)
def test_a_damaged_identity_is_none(field, value):
    minted = identity.mint("e", "ns/pair", "lun", "default", 1)
    damaged = identity.document(
        type(minted)(**{**{f: getattr(minted, f) for f in minted.__struct_fields__}, field: value})
    )
    assert identity.stored("lun", damaged, 4096).scsi_id == ""


def test_an_identity_in_another_lun_s_folder_is_none():
    text = identity.document(identity.mint("e", "ns/pair", "lun", "default", 1))
    assert identity.stored("other", text, None).scsi_id == ""


@given(st.text())
def test_any_identity_file_is_survived(text):
    identity.stored("lun", text, None)


def test_a_target_s_number_is_its_own_and_free():
    number = identity.target_number("ns/pair", "iqn.2011-03.x:y", frozenset())
    assert 1000 <= number < 2**28
    assert number == identity.target_number("ns/pair", "iqn.2011-03.x:y", frozenset())
    assert number != identity.target_number("ns/other", "iqn.2011-03.x:y", frozenset())
    assert identity.target_number("ns/pair", "iqn.2011-03.x:y", frozenset({number})) == number + 1
