"""DRBD: what /proc/drbd tells, what a disk is, and what may be done to it."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_crds import views
from storagepair_node_agent.snapshot import DiskFacts
from storagepair_node_agent.subsystems import drbd, drbd_files, drbd_proc
from unit.agent import agentbuilders as a

SYNCING = """\
version: 8.4.11 (api:1/proto:86-101)
srcversion: 059B1B470318F053F5077D5
 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----
    ns:131072 nr:0 dw:0 dr:131072 al:8 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:131028
\t[=========>..........] sync'ed: 51.2% (131028/262100)K
\tfinish: 0:00:13 speed: 9,704 (9,704) K/sec
 1: cs:Unconfigured
"""


def own_config() -> str:
    return drbd_files.resource(a.desired().spec.replication)


def up(**more):
    """The resource as it is when all is well; what is given differs."""
    well = {
        "disk": DiskFacts("/dev/vdb", present=True, size_bytes=2**28, signatures=("drbd",)),
        "metadata": "Initialized",
        "config": own_config(),
        "unit": drbd_files.UNIT_CONTENT,
        "unit_enabled": True,
        "up": True,
        "role": "Secondary",
        "disk_state": "UpToDate",
        "peer_role": "Secondary",
        "peer_disk_state": "UpToDate",
        "connection": "Connected",
    }
    return a.drbd(**{**well, **more})


JUST_CREATED = {"metadata": "JustCreated", "disk_state": "Inconsistent", "peer_disk_state": "Inconsistent"}


def plan(facts, *, node="node1", **parts):
    parts.setdefault("preflight", a.preflight(**a.SET_UP))
    spec = parts.pop("spec", {})
    return drbd.plan(a.desired(node, **spec), a.snapshot(drbd=facts, **parts))


class TestProc:
    def test_a_fresh_connected_pair(self):
        state = drbd_proc.parse((a.DATA / "proc-drbd-fresh.txt").read_text())
        assert state == drbd_proc.State(
            "Connected", "Secondary", "Secondary", "Inconsistent", "Inconsistent", suspended=False, synced_percent=100
        )

    def test_a_resync(self):
        state = drbd_proc.parse(SYNCING)
        assert (state.connection, state.role, state.synced_percent) == ("SyncSource", "Primary", 51)

    def test_suspended_io(self):
        assert drbd_proc.parse(SYNCING.replace("r-----", "s---F-")).suspended

    @pytest.mark.parametrize(
        "text", ["", "version: 8.4.11 (api:1/proto:86-101)\n", " 0: cs:Unconfigured\n", SYNCING.replace(" 0:", " 3:")]
    )
    def test_not_up(self, text):
        assert drbd_proc.parse(text) is None

    def test_a_split_brain_s_line_has_blanks_for_the_protocol(self):
        text = (
            "version: 8.4.11 (api:1/proto:86-101)\n"
            " 0: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----\n"
            "    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:60\n"
        )
        state = drbd_proc.parse(text)
        assert (state.connection, state.role, state.suspended) == ("StandAlone", "Primary", False)
        assert drbd_proc.parse(text.replace("r-----", "s-----")).suspended

    def test_what_is_not_understood_is_not_taken_for_a_resource_that_is_not_up(self):
        with pytest.raises(drbd_proc.Unreadable, match="0: cs:Connected ro:both"):
            drbd_proc.parse(" 0: cs:Connected ro:both\n")

    def test_another_minor_s_resync_is_not_ours(self):
        other = SYNCING.replace(" 0:", " 1:").split("\n", 2)[2]
        assert drbd_proc.parse((a.DATA / "proc-drbd-fresh.txt").read_text() + other).synced_percent == 100

    @given(*[st.from_regex(r"[A-Z][A-Za-z]{2,14}", fullmatch=True)] * 5, st.sampled_from("ABC "), st.booleans())
    def test_every_state_that_drbd_can_print_is_read(self, cs, role, peer_role, disk, peer_disk, protocol, suspended):
        # drbd_proc.c, drbd_seq_show: "%2d: cs:%s ro:%s/%s ds:%s/%s %c %c%c%c%c%c%c"
        flags = "s-----" if suspended else "r-----"
        text = f" 0: cs:{cs} ro:{role}/{peer_role} ds:{disk}/{peer_disk} {protocol} {flags}\n"
        state = drbd_proc.State(cs, role, peer_role, disk, peer_disk, suspended, synced_percent=100)
        assert drbd_proc.parse(text) == state

    @given(st.text().filter(lambda text: "cs:" not in text))
    def test_of_a_text_without_states_nothing_is_said(self, text):
        assert drbd_proc.parse(text) is None

    @given(st.from_regex(r"[A-TV-Z][^\n]*", fullmatch=True))
    def test_a_configured_minor_is_never_taken_for_one_that_is_not(self, rest):
        try:
            state = drbd_proc.parse(f" 0: cs:{rest}\n")
        except drbd_proc.Unreadable as error:
            assert "is not understood" in str(error)
        else:
            assert state is not None


class TestObserve:
    EVENTS2 = ("drbdsetup", "events2", "--now")

    def host(self, tmp_path, text, answers=None):
        host = a.Answering(tmp_path, answers or {})
        host.write("/proc/drbd", text, 0o644)
        return host

    @pytest.mark.parametrize("name", ["storagepair", "r0"])
    def test_the_holder_of_the_minor_is_named(self, tmp_path, name):
        told = f"exists resource name:{name} role:Primary\nexists device name:{name} volume:0 minor:0 disk:UpToDate\n"
        host = self.host(tmp_path, SYNCING, answers={self.EVENTS2: (0, told)})
        facts = drbd.observe(host, None)
        assert (facts.up, facts.minor_holder) == ((True, "") if name == "storagepair" else (False, "r0"))

    def test_no_answer_does_not_say_that_the_minor_is_ours(self, tmp_path):
        with pytest.raises(OSError, match="events2"):
            drbd.observe(self.host(tmp_path, SYNCING), None)

    def test_a_line_that_is_not_understood_is_no_resource_that_is_down(self, tmp_path):
        with pytest.raises(drbd_proc.Unreadable):
            drbd.observe(self.host(tmp_path, " 0: cs:NewState\n"), None)


NAME = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
ADDRESS = st.ip_addresses(v=4).map(str)
HOST = st.builds(
    views.ReplicationHost,
    name=NAME,
    disk=st.from_regex(r"/dev(/[A-Za-z0-9_+:-][A-Za-z0-9._+:-]{0,20}){1,3}", fullmatch=True),
    address=ADDRESS,
)
REPLICATION = st.builds(
    views.NodeReplication,
    hosts=st.tuples(HOST, HOST).filter(lambda hosts: hosts[0].name != hosts[1].name),
    seed=NAME,
    port=st.integers(1024, 65535),
    resync_rate_bytes=st.integers(256000, 2**32),
)


class TestRendering:
    @given(REPLICATION)
    def test_says_what_was_wanted_and_keeps_the_data_safe(self, replication):
        text = drbd_files.resource(replication)
        for host in replication.hosts:
            section = re.search(rf'on "{re.escape(host.name)}" {{(.*?)}}', text, re.DOTALL)[1]
            assert f'disk "{host.disk}";' in section
            assert f"address ipv4 {host.address}:{replication.port};" in section
            assert "device /dev/drbd0 minor 0;" in section
            assert "meta-disk internal;" in section
        options = dict(re.findall(r"^ {8}([a-z0-9-]+) ([^;]+);", text, re.MULTILINE))
        assert options["protocol"] == "C"
        assert options["allow-two-primaries"] == "no"
        assert options["disk-flushes"] == options["md-flushes"] == "yes"
        assert options["after-sb-0pri"] == "discard-zero-changes"
        assert options["after-sb-1pri"] == options["after-sb-2pri"] == options["rr-conflict"] == "disconnect"
        slowest, fastest = (int(options[name].removesuffix("k")) for name in ("c-min-rate", "c-max-rate"))
        assert 250 <= slowest <= fastest, "0 would be: not slowed down by anything"
        assert all(int(options[f"{kind}wfc-timeout"]) > 0 for kind in ("", "degr-", "outdated-"))
        # a dead peer is noticed before the shortest deadtime of 5 s
        worst = max(int(options["timeout"]) / 10, int(options["ping-int"])) + int(options["ping-timeout"]) / 10
        assert worst < 5
        assert text.count("{") == text.count("}")

    @given(REPLICATION)
    def test_is_the_same_on_both_hosts(self, replication):
        assert drbd_files.resource(replication) == drbd_files.resource(msgspec.structs.replace(replication, seed="x"))


class TestClassify:
    @pytest.mark.parametrize(
        ("disk", "recorded", "uuid", "expected"),
        [
            ({"zeroed": True}, None, None, "Empty"),
            ({"zeroed": True}, "/dev/vdb", None, "Empty"),
            ({"zeroed": False}, None, None, "Foreign"),
            ({"zeroed": False}, "/dev/vdb", None, "Foreign"),
            ({"zeroed": True, "in_use_by": ("partition vdb1",)}, None, None, "Foreign"),
            ({"zeroed": True, "in_use_by": ("claimed by the kernel",)}, "/dev/vdb", None, "Foreign"),
            ({"signatures": ("ext4",)}, None, None, "Foreign"),
            ({"signatures": ("ext4",)}, "/dev/vdb", None, "Foreign"),
            ({"signatures": ("gpt", "PMBR")}, "/dev/vdb", None, "Foreign"),
            ({"signatures": ("drbd",)}, None, 4, "Foreign"),
            ({"signatures": ("drbd",)}, "/dev/vdc", 4, "Foreign"),
            ({"signatures": ("drbd",)}, "/dev/vdb", 4, "JustCreated"),
            ({"signatures": ("drbd",)}, "/dev/vdb", 5, "JustCreated"),
            ({"signatures": ("drbd",)}, "/dev/vdb", 0xC5D2A1F7E8B90A34, "Initialized"),
            ({"signatures": ("drbd",)}, "/dev/vdb", None, "Initialized"),
            ({"signatures": ("ext4", "drbd")}, "/dev/vdb", 0xC5D2A1F7E8B90A34, "Initialized"),
            ({"present": False}, "/dev/vdb", None, "Unknown"),
        ],
    )
    def test_table(self, disk, recorded, uuid, expected):
        facts = DiskFacts(**{"path": "/dev/vdb", "present": True, "size_bytes": 2**28, **disk})
        assert drbd.classify(facts, recorded, uuid) == expected

    @given(
        st.builds(
            DiskFacts,
            path=st.just("/dev/vdb"),
            present=st.booleans(),
            size_bytes=st.just(2**28),
            signatures=st.lists(st.sampled_from(["ext4", "drbd", "xfs", "gpt"])).map(tuple),
            in_use_by=st.lists(st.sampled_from(["swap", "holder dm-0"])).map(tuple),
            zeroed=st.booleans(),
        ),
        st.sampled_from([None, "/dev/vdb", "/dev/vdc"]),
        st.sampled_from([None, 4, 5, 0xABCDEF]),
    )
    def test_empty_needs_every_proof(self, disk, recorded, uuid):
        if drbd.classify(disk, recorded, uuid) == "Empty":
            assert disk.present
            assert disk.zeroed
            assert not disk.signatures
            assert not disk.in_use_by


class TestPlan:
    def test_from_a_bare_disk(self):
        outcome = plan(a.drbd(), preflight=a.preflight())
        assert a.names(outcome) == ["drbd.configure", "drbd.create-metadata", "drbd.install-unit", "drbd.up"]
        record, create = outcome.actions[1].steps
        assert '"disk": "/dev/vdb"' in record.content
        assert '"pair": "default/vmstore"' in record.content
        assert create.argv == ("drbdadm", "create-md", "storagepair")

    def test_the_record_is_written_before_the_metadata(self):
        create = plan(a.drbd(), preflight=a.preflight()).actions[1]
        assert a.steps(create)[0].startswith("write /var/lib/storagepair/host.json")

    def test_a_crash_between_record_and_metadata(self):
        facts = a.drbd(config=own_config(), unit=drbd_files.UNIT_CONTENT, unit_enabled=True)
        assert a.names(plan(facts)) == ["drbd.create-metadata", "drbd.up"]

    def test_metadata_there_but_down(self):
        facts = up(up=False, connection="", metadata="Initialized")
        assert a.names(plan(facts)) == ["drbd.up"]

    def test_all_is_well(self):
        outcome = plan(up())
        assert (outcome.verdict.ready, outcome.actions) == (True, ())

    @pytest.mark.parametrize(
        "disk",
        [
            {"signatures": ("ext4",)},
            {"signatures": ("drbd",)},
            {"in_use_by": ("partition vdb1",)},
            {"zeroed": False},
        ],
    )
    def test_foreign_data_is_never_touched(self, disk):
        outcome = plan(a.drbd(disk=DiskFacts("/dev/vdb", present=True, **disk), metadata="Foreign"))
        assert outcome.actions == ()
        assert (outcome.verdict.reason, outcome.verdict.waiting) == ("ForeignData", False)
        for word in ("spec.replication.hosts[node1].disk", "/dev/vdb", "node1"):
            assert word in outcome.verdict.message

    def test_what_is_not_known_is_not_touched(self):
        assert plan(a.drbd(metadata="Unknown")).actions == ()
        assert drbd.plan(a.desired(), a.snapshot(drbd=None)).actions == ()
        assert drbd.plan(a.desired(), a.snapshot(preflight=None)).actions == ()
        assert drbd.plan(a.desired(), a.snapshot(filesystem=None)).actions == ()

    def test_minor_of_another_resource(self):
        outcome = plan(a.drbd(minor_holder="r0"))
        assert outcome.actions == ()
        assert "r0" in outcome.verdict.message

    def test_waits_for_its_address(self):
        outcome = plan(a.drbd(), network=a.bare_network())
        assert (outcome.actions, outcome.verdict.reason) == ((), "WaitingForNetwork")

    def test_a_changed_document_is_written_checked_and_adjusted_with_a_way_back(self):
        facts = up(config="resource storagepair {}\n")
        (action,) = plan(facts).actions
        assert a.steps(action)[1:] == ["run drbdadm sh-nop", "run drbdadm adjust storagepair"]
        (undo,) = action.rollback
        assert undo.content == "resource storagepair {}\n"

    @pytest.mark.parametrize("state", [{"connection": "StandAlone"}, {"disk_state": "Diskless"}])
    def test_neither_reconnects_nor_attaches_by_itself(self, state):
        (action,) = plan(up(config="old", **state)).actions
        assert "run drbdadm adjust storagepair" not in a.steps(action)
        assert plan(up(**state)).actions == ()

    def test_drift(self):
        assert a.names(plan(up(drift=True))) == ["drbd.adjust"]


class TestFirstSync:
    def test_on_the_seed(self):
        (action,) = plan(up(**JUST_CREATED)).actions
        assert a.steps(action) == ["run drbdadm primary --force storagepair"]

    @pytest.mark.parametrize(
        "state",
        [
            {"metadata": "Initialized"},
            {"metadata": "Unknown"},
            {"connection": "WFConnection", "peer_disk_state": "DUnknown"},
            {"connection": "StandAlone"},
            {"connection": "SyncTarget"},
            {"connection": "WFBitMapT"},
            {"peer_disk_state": "UpToDate"},
            {"peer_disk_state": "Outdated"},
            {"peer_disk_state": "Diskless"},
            {"disk_state": "UpToDate"},
            {"peer_role": "Primary"},
        ],
    )
    def test_never_without_the_whole_proof(self, state):
        assert plan(up(**{**JUST_CREATED, **state})).actions == ()

    def test_never_on_the_other_node(self):
        network = a.network()
        there = replace(network.interfaces[-1], addresses=("192.168.1.132/24",))
        facts = replace(network, interfaces=(*network.interfaces[:-1], there))
        outcome = plan(up(**JUST_CREATED), node="node2", network=facts)
        assert (outcome.actions, outcome.verdict.reason) == ((), "WaitingForSeed")

    def test_never_once_the_service_runs(self):
        assert plan(up(**JUST_CREATED), spec={"service": "Run"}).actions == ()


@pytest.mark.parametrize(
    ("state", "service", "reason", "waiting"),
    [
        ({"disk_state": "Diskless"}, "Run", "DiskFailed", False),
        ({"connection": "StandAlone"}, "Run", "StandAlone", False),
        ({"connection": "SyncSource", "peer_disk_state": "Inconsistent"}, "Run", "Resyncing", True),
        ({"connection": "SyncTarget", "disk_state": "Inconsistent"}, "Run", "Resyncing", True),
        ({"connection": "WFConnection"}, "Prepare", "PeerNotConnected", True),
        ({"connection": "WFConnection"}, "Run", "PeerNotConnected", False),
        ({"peer_disk_state": "Outdated"}, "Run", "NotUpToDate", False),
    ],
)
def test_verdicts(state, service, reason, waiting):
    verdict = plan(up(**state), spec={"service": service}).verdict
    assert (verdict.ready, verdict.reason, verdict.waiting) == (False, reason, waiting)
