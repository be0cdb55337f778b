"""The resource script's order and states, on a folder that plays the host. dash runs it, as on Debian."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from unit.agent.fakehost import IQN, TABLE, FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = FakeHost(tmp_path)
    made.exports()
    return made


def started(host: FakeHost) -> FakeHost:
    assert host.service("start").returncode == 0
    host.calls()
    return host


def shortened(calls: list[str]) -> list[str]:
    return [_short(call) for call in calls]


def _short(call: str) -> str:
    if "flush set inet storagepair open" in call:
        return "port closed"
    if "add element inet storagepair open" in call:
        return "port opened"
    return " ".join(call.split()[: 6 if call.startswith("tgtadm") else 3])


def test_start_in_the_only_safe_order_with_one_program_a_step(host):
    assert host.service("start").returncode == 0
    assert shortened(host.calls()) == [
        "drbdsetup-84 primary 0",
        "mount -t ext4",
        "tgtadm --lld iscsi --op new --mode",
        "tgtadm --lld iscsi --op update --mode",
        "tgtadm --lld iscsi --op new --mode",
        "tgtadm --lld iscsi --op update --mode",
        "tgtadm --lld iscsi --op bind --mode",
        "ip addr add",
        "port opened",
    ]
    assert host.phases("start")[:8] == ["begin", "promoted", "mounted", "past", "targets", "vip", "open", "end"]


def test_the_target_asks_no_initiator_to_wait_before_it_comes_back_and_serves_where_that_can_not_be_set(host):
    host.fail("tgtadm", "DefaultTime2Wait", "invalid request")
    assert host.service("start").returncode == 0
    asked = next(call for call in host.calls() if "DefaultTime2Wait" in call)
    assert asked.endswith("--op update --mode target --tid 1001 --name DefaultTime2Wait --value 0")
    assert " start end ok\n" in host.read("keep/journal.log")


def test_stop_in_the_reverse_order(host):
    started(host)
    assert host.service("stop").returncode == 0
    assert shortened(host.calls()) == [
        "port closed",
        "ip addr del",
        "tgtadm --lld iscsi --op delete --force",
        f"umount {host.root}/storage",
        "drbdsetup-84 secondary 0",
    ]
    assert host.phases("stop") == ["begin", "silent", "vip-off", "targets-off", "unmounted", "demoted", "end"]
    assert host.read("run/storagepair/state") == "stopped\n"


def test_the_lun_is_given_its_identity_and_flags_before_anybody_may_log_in(host):
    host.service("start")
    new, update, bind = [call for call in host.calls() if call.startswith("tgtadm")][2:]
    assert f"-b {host.root}/storage/luns/datastore1/disk.img --bsoflags sync" in new
    assert "scsi_sn=aa,scsi_id=60253500000000000000000000000001,thin_provisioning=0" in update
    assert bind.endswith("-I 10.10.25.0/24")


@pytest.mark.parametrize("table", ["", "end\n", None])
def test_without_exports_the_port_stays_closed(host, table):
    if table is None:
        (host.root / "storage/.storagepair/exports").unlink()
    else:
        host.exports(table)
    assert host.service("start").returncode == (1 if table == "" else 0)  # an empty file is a torn table
    assert not any("add element" in call for call in host.calls())


def test_a_torn_table_is_not_served(host):
    host.exports(TABLE.removesuffix("end\n"))
    assert host.service("start").returncode == 1
    assert not (host.root / "open").exists()
    assert "its last line is missing" in host.read("keep/journal.log")


def test_a_lun_whose_file_is_gone_does_not_keep_the_others_away(host):
    host.exports(TABLE.replace("end\n", "lun b 1001 2 - 61 bb STORPAIR bb-lun2 luns/b/disk.img 4096\nend\n"))
    assert host.service("start").returncode == 0
    assert "lun-missing b" in host.read("keep/journal.log")
    assert host.read("tgtd").count("LUN:") == 1


def test_a_peer_that_is_just_releasing_is_waited_for(host):
    host.drbd(peer="Primary")
    release = f"sleep 0.3; sed -i s,/Primary,/Secondary, {host.root}/proc/drbd"
    with subprocess.Popen(["/bin/sh", "-c", release]):
        assert host.service("start").returncode == 0


def test_nothing_is_left_behind_but_what_announces(host):
    host.service("start")
    host.settled()
    host.service("stop")
    host.await_no_sleepers()


def test_start_and_stop_again_change_nothing(host):
    started(host)
    assert host.service("start").returncode == 0
    assert [call.split()[0] for call in host.calls()] == ["ip", "tgtadm", "nft"]  # looks, all three
    host.service("stop")
    host.calls()
    assert host.service("stop").returncode == 0
    assert host.calls() == []


def test_start_repairs_a_service_of_which_a_part_is_gone_behind_a_closed_port(host):
    started(host)
    host.write("tgtd", "")
    assert host.service("start").returncode == 0
    calls = shortened(host.calls())
    assert calls.index("port closed") < calls.index("tgtadm --lld iscsi --op new --mode") < calls.index("port opened")
    assert IQN in host.read("tgtd")
    assert "mount -t ext4" not in calls


@pytest.mark.parametrize("disk", ["Inconsistent", "Outdated", "Diskless", "Failed"])
def test_no_promotion_of_an_old_or_missing_disk(host, disk):
    host.drbd(disk=disk)
    assert host.service("start").returncode == 1
    assert not any(call.startswith(("drbdsetup", "mount")) for call in host.calls())
    assert disk in host.read("keep/journal.log")


def test_never_beside_another_primary(host):
    host.drbd(peer="Primary")
    assert host.service("start").returncode == 1
    assert not any("primary" in call for call in host.calls())


def test_a_refused_promotion_is_tried_again_for_a_bounded_time(host):
    host.fail("drbdsetup-84", "primary", "State change failed: (-1) Multiple primaries not allowed by config")
    assert host.service("start").returncode == 1
    assert sum("primary 0" in call for call in host.calls()) > 2
    assert "Multiple primaries" in host.read("keep/journal.log")


@pytest.mark.parametrize(
    ("program", "pattern"),
    [
        ("mount", "ext4"),
        ("tgtadm", "target"),
        ("tgtadm", "logicalunit"),
        ("tgtadm", "bind"),
        ("ip", "add"),
        ("nft", "add element"),
    ],
)
def test_a_failed_start_gives_everything_back(host, program, pattern):
    host.fail(program, pattern, "no such luck")
    if pattern == "target":
        host.fail(program, "new", "no such luck")
    assert host.service("start").returncode == 1
    assert "no such luck" in host.read("keep/journal.log")
    assert "ro:Secondary/" in host.read("proc/drbd")
    assert not (host.root / "sys/ext4/drbd0").exists()
    assert not (host.root / "vip").exists()
    assert not (host.root / "open").exists()
    assert host.service("status").stdout == "stopped\n"
    host.heal()
    assert host.service("start").returncode == 0


def test_a_target_of_the_same_number_and_another_name_is_not_ours_to_take(host):
    host.write("tgtd", "Target 1001: iqn.1999-01.com.stranger:disk\n")
    host.fail("tgtadm", "new", "tgtadm: this target already exists")
    assert host.service("start").returncode == 1
    assert not any("delete" in call and "conn" in call for call in host.calls())
    assert "taken by another target" in host.read("keep/journal.log")


# ---------------------------------------------------------------------------- status has two readers


def test_status_is_running_only_when_all_is_up(host):
    assert host.service("status").stdout == "stopped\n"
    started(host)
    assert host.service("status").stdout == "running\n"
    for path in ("vip", "open"):
        (host.root / path).rename(host.root / "away")
        assert host.service("status").stdout == "stopped\n"
        (host.root / "away").rename(host.root / path)
    host.write("tgtd", "")
    assert host.service("status").stdout == "stopped\n"


def test_on_the_way_of_a_takeover_status_asks_no_program(host):
    assert host.service("status").stdout == "stopped\n"
    assert host.calls() == []


@pytest.mark.parametrize(
    ("program", "pattern"), [("umount", "storage"), ("drbdsetup-84", "secondary"), ("tgtadm", "delete")]
)
def test_after_a_failed_stop_status_says_running_while_anything_is_held(host, program, pattern):
    started(host)
    host.fail(program, pattern, "busy")
    done = host.service("stop")
    assert done.returncode == 1
    assert "stop failed" in done.stderr
    assert not (host.root / "open").exists()  # whatever fails, the port is silent
    assert host.service("status").stdout == "running\n"
    host.heal()
    assert host.service("stop").returncode == 0
    assert host.service("status").stdout == "stopped\n"


@pytest.mark.parametrize("connection", ["WFConnection", "StandAlone"])
def test_stop_never_waits_for_a_suspended_device(host, connection):
    started(host)
    host.drbd(role="Primary", flags="s-----", connection=connection)
    assert host.service("stop").returncode == 1
    calls = shortened(host.calls())
    assert "port closed" in calls
    assert not any(call.startswith("umount") for call in calls)
    assert host.service("status").stdout == "running\n"


def test_holders_are_killed_only_as_the_last_resort(host):
    started(host)
    host.fail("umount", "storage", "target is busy")
    host.service("stop")
    calls = [call.split()[0] for call in host.calls()]
    assert calls.count("fuser") == 1
    assert calls[: calls.index("fuser")].count("umount") == 10


def test_a_host_without_configuration_holds_nothing(host):
    host.conf(mount="")
    assert host.service("start").returncode == 1
    assert host.service("stop").returncode == 0
    assert host.service("status").stdout == "stopped\n"
    assert host.calls() == []


# ---------------------------------------------------------------------------- why it came here


def test_the_marker_of_a_clean_release_names_node_and_time(host):
    started(host)
    host.service("stop")
    silent = next(
        line.split()[4] for line in host.read("keep/journal.log").splitlines() if line.endswith("stop silent")
    )
    node, at, *_ = host.read("storage/.storagepair/released").splitlines()[0].split()
    assert (node, at) == ("node1", silent)


def test_the_taker_tells_who_served_last_and_when_it_released(host):
    host.write("storage/.storagepair/active", "node2\n")
    host.write("storage/.storagepair/released", "node2 1795379566879216 1 b\nreleased 1795379568179216\n")
    host.service("start")
    journal = host.settled()
    assert "past last=node2 released=1795379566879216" in journal
    assert "peer phase=released at=1795379568179216" in journal
    assert host.read("storage/.storagepair/active") == "node1\n"
    assert host.read("storage/.storagepair/released").strip() == ""


def test_an_older_release_of_the_other_node_is_not_this_one_s(host):
    host.write("storage/.storagepair/active", "node2\n")
    host.write("storage/.storagepair/released", "node1 1795379566879216 1 b\n")
    host.service("start")
    assert "past last=node2 released=-" in host.settled()


@pytest.mark.parametrize(("age", "told"), [(3, True), (3600, False)])
def test_a_lost_peer_is_told_by_heartbeat_s_log_if_it_is_about_this_takeover(host, age, told):
    stamp = time.strftime("%b %d %H:%M:%S", time.localtime(time.time() - age))
    host.write("log/ha-log", f"{stamp} node1 heartbeat: [783]: WARN: node node2: is dead\n")
    host.write("storage/.storagepair/active", "node2\n")
    host.service("start")
    assert ("lost dead=" in host.settled()) is told


def test_a_failed_start_leaves_the_other_node_s_marker(host):
    host.write("storage/.storagepair/active", "node2\n")
    host.write("storage/.storagepair/released", "node2 1795379566879216 1 b\n")
    host.fail("ip", "add", "no such device")
    host.service("start")
    assert host.read("storage/.storagepair/released").startswith("node2 ")
    assert host.read("storage/.storagepair/active") == "node2\n"


def test_the_journal_is_bounded(host):
    host.write("keep/journal.log", "x" * 300_000 + "\n")
    host.service("start")
    host.await_file("keep/journal.log.1")
    assert "end ok" in host.read("keep/journal.log.1")


# ---------------------------------------------------------------------------- the small programs


def test_changes_are_refused_while_the_service_is_not_up(host):
    done = host.run("with-lock", "tgtadm", "--op", "x")
    assert done.returncode == 75
    assert host.calls() == []
    started(host)
    assert host.run("with-lock", "tgtadm", "--op", "x").returncode == 0
    assert host.calls() == ["tgtadm --op x"]


def test_a_lun_comes_under_a_silent_port(host):
    started(host)
    args = ("1001", "2", "-", "61", "bb", "STORPAIR", "bb-lun2", "luns/b/disk.img")
    assert host.run("exports", "add-lun", *args).returncode == 0
    assert shortened(host.calls()) == [
        "port closed",
        "tgtadm --lld iscsi --op new --mode",
        "tgtadm --lld iscsi --op update --mode",
        "port opened",
    ]


def test_a_lun_that_gets_no_identity_goes_and_the_port_opens_again(host):
    started(host)
    host.fail("tgtadm", "update", "invalid request")
    args = ("1001", "2", "-", "61", "bb", "STORPAIR", "bb-lun2", "luns/b/disk.img")
    done = host.run("exports", "add-lun", *args)
    assert done.returncode == 1
    assert "invalid request" in done.stderr
    assert [call for call in host.calls() if "delete --mode logicalunit" in call]
    assert (host.root / "open").exists()


def test_the_port_opens_only_where_the_service_is_up(host):
    assert host.run("port", "open").returncode == 75
    assert host.run("port", "close").returncode == 0
    started(host)
    assert host.run("port", "open").returncode == 0


def test_closing_a_port_whose_table_is_gone_brings_the_table_back(host):
    started(host)
    host.fail("nft", "flush", "No such file or directory")
    assert host.run("port", "close").returncode == 0
    assert any(call.startswith("nft -f") for call in host.calls())


def test_files_go_only_onto_the_mounted_storage(host):
    assert host.run("storage", "put", ".storagepair/exports", stdin="end\n").returncode == 75
    started(host)
    # what is mounted in the table but not in truth (here a plain folder) is refused too
    assert host.run("storage", "put", ".storagepair/exports", stdin="end\n").returncode == 75
    assert host.read("storage/.storagepair/exports") == TABLE
