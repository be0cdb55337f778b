"""What the guardian and `move` do and refuse, on a folder that plays the host. dash runs them, as on Debian."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from unit.agent.fakehost import FakeHost

DEAD = "Nov 22 14:44:42 node1 heartbeat: [668]: WARN: node node2: is dead\n"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = FakeHost(tmp_path)
    made.exports()
    made.write("log/ha-log", "")
    made.heartbeat()
    return made


@contextmanager
def guardian(host: FakeHost) -> Iterator[subprocess.Popen[str]]:
    """The guardian with a quick clock; ended with all that it started."""
    process = host.spawn("guardian")
    try:
        host.await_file("run/guardian-ticks")
        yield process
    finally:
        host.end(process)


def wait_started(host: FakeHost) -> bool:
    return within(lambda: host.read("run/storagepair/state") == "started\n")


def wait_exported(host: FakeHost) -> bool:
    return within(lambda: "LUN: 1" in host.read("tgtd"))


def within(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def ticks(host: FakeHost, count: int) -> None:
    """Until the guardian has looked at everything that often again."""
    before = len(host.read("run/guardian-ticks"))
    deadline = time.monotonic() + 120
    while len(host.read("run/guardian-ticks")) < before + count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_machine_that_never_served_has_a_journal_to_look_at(host):
    host.drbd(peer="Primary")
    assert not (host.root / "keep/journal.log").exists()
    with guardian(host):
        assert (host.root / "keep/journal.log").read_text() == ""


def test_a_peer_that_released_is_followed_at_once(host):
    host.drbd(peer="Primary")
    with guardian(host):
        ticks(host, 2)
        assert host.read("run/storagepair/state") == ""
        host.drbd(peer="Secondary")
        host.mirror_event()
        assert wait_started(host)


def test_a_peer_that_heartbeat_declares_dead_is_followed_at_once(host):
    host.drbd(peer="Unknown", connection="WFConnection")
    with guardian(host):
        host.append("log/ha-log", DEAD)
        assert wait_started(host)


@pytest.mark.parametrize("why", ["no heartbeat", "old data", "a peer that serves", "another machine died"])
def test_nothing_is_taken_over_with(host, why):
    host.drbd(peer="Primary")
    log = DEAD
    if why == "no heartbeat":
        host.heartbeat(running=False)
        host.drbd(peer="Unknown", connection="WFConnection")
    elif why == "old data":
        host.drbd(peer="Unknown", connection="WFConnection", disk="Outdated")
    elif why == "another machine died":
        log = DEAD.replace("node2:", "10.10.25.254:")
    with guardian(host):
        host.append("log/ha-log", log)
        host.mirror_event()
        ticks(host, 20)
        assert "started" not in host.read("run/storagepair/state")
    assert "ro:Secondary/" in host.read("proc/drbd")


def test_targets_that_tgtd_lost_come_back_and_the_service_stays(host):
    host.service("start")
    host.settled()
    with guardian(host):
        ticks(host, 3)
        host.write("tgtd", "")
        host.tgtd_pid(4711)
        assert wait_exported(host)
        assert wait_started(host)
        assert not any("secondary" in call for call in host.calls())


def test_an_export_that_the_agent_is_just_making_is_not_called_lost(host):
    host.service("start")
    host.settled()
    host.write("tgtd", "")  # before the guardian's first look: with the same tgtd the next one is a minute away
    with host.clock_by_hand() as tick, guardian(host):
        for _ in range(12):
            assert host.run("with-lock", "true").returncode == 0
            tick()
            tick()
        assert host.read("tgtd") == ""
        for _ in range(12):  # nothing comes any more
            tick()
        assert wait_exported(host)


def test_while_tgtd_does_not_answer_the_service_is_not_given_up(host):
    host.service("start")
    host.settled()
    host.fail("tgtadm", "--op", "can't connect to tgt daemon")
    host.write("tgtd", "")
    host.tgtd_pid(4711)
    with guardian(host):
        ticks(host, 5)
        assert host.read("run/storagepair/state") == "started\n"
        assert not any("secondary" in call for call in host.calls())


@pytest.fixture
def beyond_repair(host: FakeHost) -> FakeHost:
    """It serves, its tgtd has lost everything and does not answer, and a guardian will have waited long enough."""
    host.service("start")
    host.settled()
    script = host.read("lib/guardian")
    assert "REPAIR_FOR=20 " in script
    host.write("lib/guardian", script.replace("REPAIR_FOR=20 ", "REPAIR_FOR=0 "))
    host.fail("tgtadm", "--op", "can't connect to tgt daemon")
    host.write("tgtd", "")
    host.tgtd_pid(4711)
    return host


def test_what_can_not_be_mended_is_handed_over(beyond_repair):
    with guardian(beyond_repair):
        assert within(lambda: "hb_standby all" in beyond_repair.read("calls"))
        # each tick asks anew here: a look may find it half written
        assert within(lambda: beyond_repair.read("run/storagepair/intent").startswith("ResourceFailed "))


def test_nothing_is_handed_over_while_heartbeat_is_not_at_rest(beyond_repair):
    beyond_repair.heartbeat_holds("transition\n")
    with guardian(beyond_repair):
        assert within(lambda: beyond_repair.read("calls").count("cl_status rscstatus") > 3)
    assert standbys(beyond_repair) == 0
    assert beyond_repair.read("run/storagepair/intent") == ""


def test_an_open_port_without_the_service_is_closed(host):
    host.service("start")
    host.settled()
    host.service("stop")
    host.write("run/storagepair/port", "open\n")
    host.drbd(peer="Primary")
    host.calls()
    with guardian(host):
        ticks(host, 3)
    assert any("flush set inet storagepair open" in call for call in host.calls())


def test_a_failed_takeover_is_tried_again_and_not_at_once(host):
    host.drbd(peer="Unknown", connection="WFConnection")
    host.write("nodestatus", "dead\n")
    host.fail("ip", "add", "no such device")
    with guardian(host):
        began = time.monotonic()
        host.append("log/ha-log", DEAD)
        host.await_file("run/storagepair/state")
        ticks(host, 20)
        tried = sum("primary 0" in call for call in host.calls())
        assert tried >= 1
        assert 2 ** (tried - 1) - 1 <= time.monotonic() - began, "pauses of 1, 2, 4, ... s between the tries"
        host.heal()
        assert wait_started(host)


def test_nobody_is_followed_while_a_peer_lives_that_can_not_be_asked(host):
    host.drbd(peer="Unknown", connection="WFConnection")
    host.write("nodestatus", "active\n")
    with guardian(host):
        ticks(host, 20)
        assert host.read("run/storagepair/state") == ""


# ---------------------------------------------------------------------------- move


@pytest.fixture
def active(host: FakeHost) -> FakeHost:
    host.service("start")
    host.settled()
    host.drbd(role="Primary")
    host.write("nodestatus", "active\n")
    host.calls()
    return host


def move(host: FakeHost, to="node2", name="storage/tonight", uid="u-1", *more: str) -> tuple[int, str]:
    done = host.run("move", to, name, uid, *more)
    assert done.stdout, done.stderr
    return done.returncode, done.stdout.splitlines()[-1]


def standbys(host: FakeHost) -> int:
    return sum(call.startswith("hb_standby") for call in host.calls())


def test_a_move_asks_heartbeat_once_and_waits_until_the_peer_is_primary(active):
    active.on_standby("Secondary", "Primary")
    code, word = move(active)
    assert (code, word) == (0, "Moved node2 has the service")
    assert standbys(active) == 1
    assert active.read("storage/.storagepair/requests").startswith("storage/tonight u-1 ")
    assert active.read("run/storagepair/intent").startswith("Planned storage/tonight ")


def test_a_name_that_was_carried_out_is_never_carried_out_again(active):
    active.write("storage/.storagepair/requests", "storage/tonight u-1 1795379566\n")
    for uid in ("u-1", "u-2"):
        code, word = move(active, uid=uid)
        assert code == 75
        assert word.startswith("AlreadyCarriedOut")
    assert standbys(active) == 0


@pytest.mark.parametrize(
    ("reason", "spoil"),
    [
        ("NotActive", lambda host: host.write("run/storagepair/state", "stopped\n")),
        ("PeerNotSeen", lambda host: host.heartbeat(running=False)),
        ("PeerNotSeen", lambda host: host.write("nodestatus", "dead\n")),
        ("NotConnected", lambda host: host.drbd(role="Primary", connection="WFConnection")),
        ("NotUpToDate", lambda host: host.drbd(role="Primary", peer_disk="Inconsistent")),
        ("HeartbeatBusy", lambda host: host.heartbeat_holds("transition\n")),
        ("HeartbeatBusy", lambda host: host.heartbeat_holds("")),  # it does not answer
        ("MoveUnderWay", lambda host: host.write("run/storagepair/intent", f"Planned - {time.time_ns() // 1000}\n")),
    ],
)
def test_a_move_is_refused_and_nothing_changed(active, reason, spoil):
    spoil(active)
    code, word = move(active)
    assert code == 75
    assert word.split()[0] == reason
    assert standbys(active) == 0
    assert active.read("storage/.storagepair/requests") == ""


def test_what_a_killed_move_left_behind_keeps_no_later_one_from_moving(active):
    active.write("run/storagepair/intent", "Planned storage/killed 1795379566000000\n")
    active.on_standby("Secondary", "Primary")
    assert move(active)[0] == 0


def test_a_move_to_another_machine_or_too_late_is_refused(active):
    assert move(active, "node3")[1].startswith("NotPeer")
    assert move(active, "node2", "storage/tonight", "u-1", "1000")[1].startswith("TooLate")
    assert standbys(active) == 0


# real, from Heartbeat 3.0.6
GIVEN_UP = "Nov 29 08:47:24 node1 heartbeat: [633]: WARN: No reply to standby request.  Standby request cancelled."


@pytest.mark.parametrize("held", ["all", "local", "foreign"])
def test_a_request_that_heartbeat_gave_up_is_made_again_when_it_is_at_rest(active, held):
    active.heartbeat_holds(f"{held}\n")
    active.heartbeat_gives_up(GIVEN_UP)
    active.on_standby("Secondary", "Primary")
    assert move(active) == (0, "Moved node2 has the service")
    assert standbys(active) == 2


@pytest.mark.parametrize("answer", ["transition\n", "\n"])
def test_nothing_is_asked_for_again_while_heartbeat_may_be_moving_something(active, answer):
    active.heartbeat_holds("all\n", on_standby=answer)
    code, word = move(active)
    assert (code, word.split()[0]) == (1, "NotReleased")
    assert standbys(active) == 1


def test_nothing_is_asked_for_before_heartbeat_is_at_rest(active):
    active.on_standby("Secondary", "Primary")
    active.heartbeat_holds("transition\n", next_time="all\n")
    assert move(active)[0] == 0
    calls = [call.split()[0] for call in active.calls() if "rscstatus" in call or "hb_standby" in call]
    assert calls == ["cl_status", "cl_status", "hb_standby"]


def test_a_release_that_has_begun_is_not_asked_for_again(active):
    active.on_standby("Primary", "Secondary")  # released, and not taken over
    active.append("bin/hb_standby", f"echo stopped >{active.root}/run/storagepair/state\n")
    code, word = move(active)
    assert (code, word.split()[0]) == (1, "NotTakenOver")
    assert standbys(active) == 1


def test_a_failed_move_tells_what_heartbeat_said_of_it_and_not_of_an_earlier_one(active):
    active.append("log/ha-log", GIVEN_UP.replace("cancelled", "ignored") + "\n")
    active.heartbeat_holds("all\n", on_standby="transition\n")
    active.heartbeat_gives_up(GIVEN_UP)
    _, word = move(active)
    assert GIVEN_UP in word
    assert "ignored" not in word


def test_a_move_that_heartbeat_does_not_carry_out_is_a_failure_that_says_where_to_look(active):
    code, word = move(active)
    assert code == 1
    assert word.startswith("NotReleased")
    assert "it logged nothing of it" in word
    assert active.read("run/storagepair/intent") == ""


@pytest.mark.parametrize("name", ["$(reboot)", "a b", "nonamespace"])
def test_what_is_no_name_is_not_taken_for_one(active, name):
    assert active.run("move", "node2", name, "u-1").returncode == 2
    assert standbys(active) == 0
