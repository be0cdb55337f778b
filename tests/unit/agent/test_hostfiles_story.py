"""Why the service moves, and when the initiators were answered: both nodes' scripts, on a folder that plays them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from unit.agent.fakehost import FakeHost

HEARTBEAT = {"HA_FUNCS": "/etc/ha.d/shellfuncs"}
STANDBY = "Nov 22 14:45:11 node1 heartbeat: [244]: info: node1 wants to go standby [all]\n"
GIVING_UP = "Nov 22 14:46:32 node1 ipfail: [272]: info: Giving up because we have less visible ping nodes.\n"
LISTED = "table inet storagepair {{\n set {} {{\n  timeout 1h\n  elements = {{ {} }}\n }}\n}}\n"
SHUTDOWN = "Nov 22 14:46:32 node1 heartbeat: [272]: info: Heartbeat shutdown in progress. (244)\n"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = FakeHost(tmp_path)
    made.exports()
    assert made.service("start").returncode == 0
    made.settled()
    return made


def marker(host: FakeHost) -> dict[str, str]:
    lines = host.read("storage/.storagepair/released").splitlines()[1:]
    return {line.split()[0]: line.split()[1] for line in lines[: lines.index("end")]}


def test_a_marker_needs_no_space_that_a_start_did_not_take(host):
    before = (host.root / "storage/.storagepair/released").stat().st_size
    host.service("stop", **HEARTBEAT)
    assert (host.root / "storage/.storagepair/released").stat().st_size == before


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (STANDBY, "Planned"),
        (GIVING_UP + STANDBY, "ServiceNetworkLost"),
        (GIVING_UP + STANDBY + STANDBY, "Planned"),
        (STANDBY + SHUTDOWN, "HeartbeatStopped"),
        ("", "Unknown"),
    ],
)
def test_what_heartbeat_logged_is_why_it_releases(host, log, cause):
    host.write("log/ha-log", log)
    assert host.service("stop", **HEARTBEAT).returncode == 0
    assert marker(host)["cause"] == cause


def test_a_stop_that_nobody_but_a_person_can_have_run_is_called_so(host):
    host.write("log/ha-log", STANDBY)
    host.service("stop")
    assert marker(host)["cause"] == "OperatorError"


def test_heartbeat_that_was_killed_is_the_cause_of_our_own_stop(host):
    host.service("stop", STORAGEPAIR_CAUSE="HeartbeatStopped")
    assert marker(host)["cause"] == "HeartbeatStopped"


def test_a_service_that_can_not_be_mended_here_is_released_with_that_word(host):
    host.write("tgtd", "")
    host.fail("tgtadm", "logicalunit", "out of memory")
    assert host.service("start").returncode == 1
    assert marker(host)["cause"] == "ResourceFailed"


def test_a_request_is_told_with_its_name_and_time_even_when_the_stop_needs_a_second_try(host):
    host.write("run/storagepair/intent", "Planned storage/tonight 1795379566000000\n")
    host.fail("umount", "storage", "busy")
    assert host.service("stop", **HEARTBEAT).returncode == 1
    host.heal()
    assert host.service("stop", **HEARTBEAT).returncode == 0
    told = marker(host)
    assert (told["cause"], told["request"], told["asked"]) == ("Planned", "storage/tonight", "1795379566000000")
    assert host.read("run/storagepair/intent") == ""


def test_the_marker_tells_when_initiators_were_last_answered(host):
    host.write(
        "answered",
        "table inet storagepair {\n set answered {\n  type ipv4_addr\n  timeout 1h\n"
        "  elements = { 10.10.25.140 expires 59m58s500ms, 10.10.25.141 expires 40m }\n }\n}\n",
    )
    host.service("stop", **HEARTBEAT)
    silent = int(host.read("storage/.storagepair/released").split()[1])
    assert silent - int(marker(host)["answered"]) == pytest.approx(1_500_000, abs=100_000)


def test_an_idle_pair_has_no_last_answer(host):
    host.service("stop", **HEARTBEAT)
    assert marker(host)["answered"] == "-"


def test_the_taker_journals_what_the_releasing_node_had_to_say(tmp_path):
    host = FakeHost(tmp_path)
    host.exports()
    host.write("storage/.storagepair/active", "node2\n")
    host.write(
        "storage/.storagepair/released",
        "node2 1795379566879216 1 b\ncause Planned\nrequest storage/tonight\nanswered 1795379566800000\n"
        "asked 1795379560000000\nvip-off 1795379567000000\ntargets-off 1795379567100000\n",
    )
    host.service("start")
    journal = host.settled()
    assert "cause name=Planned request=storage/tonight" in journal
    assert "answered last=1795379566800000" in journal
    assert "peer phase=asked at=1795379560000000" in journal
    assert "peer phase=targets-off at=1795379567100000" in journal


def test_the_taker_journals_when_the_first_initiator_logged_in_and_was_answered(tmp_path):
    host = FakeHost(tmp_path)
    host.exports()
    host.write("storage/.storagepair/peers", "10.10.25.140:41234\nnonsense\n")
    host.write("logins", LISTED.format("logins", "10.10.25.141 expires 59m59s, 10.10.25.140 expires 50m"))
    host.write("resumed", LISTED.format("resumed", "10.10.25.140 expires 59m58s900ms"))
    began = time.time()
    host.service("start")
    journal = host.settled()
    ended = time.time()
    lines = [line.split() for line in journal.splitlines() if line]
    begin = int(lines[0][4])
    written = {words[6]: int(words[4]) for words in lines}
    at = {words[6]: int(words[7].removeprefix("at=")) for words in lines if words[6] in ("first-login", "resumed")}
    # both listings were read in between, of a set whose elements last an hour
    assert begin <= at["first-login"] + 600_000_000 <= written["first-login"]
    assert begin <= at["resumed"] + 1_100_000 <= written["resumed"]
    # the journal's clock is as exact as the start of `date` is quick, which is within this run, and its ticks are short
    error = ended - began + 0.02
    assert began - error <= begin / 1e6 <= ended + error


def test_initiators_that_were_connected_are_woken_and_nobody_else(tmp_path):
    host = FakeHost(tmp_path)
    host.exports()
    host.write("storage/.storagepair/peers", "10.10.25.140:41234\n$(reboot)\n")
    began = time.monotonic()
    assert host.service("start").returncode == 0  # and its output is closed: Heartbeat waits for nothing more
    assert time.monotonic() - began < 60, "a start must not last until the initiators are back"
    assert host.run("with-lock", "true").returncode == 0, "nor may its lock"
    assert host.read("run/storagepair/tickle") == "10.10.25.136:3260 10.10.25.140:41234\n"
    host.service("stop")  # nobody comes back: what waits for that ends here


def test_a_service_that_was_taken_down_for_good_is_no_move_when_another_node_starts_it_again(host):
    host.write("run/storagepair/intent", "Teardown - 0\n")
    assert host.service("stop", **HEARTBEAT).returncode == 0
    assert host.read("storage/.storagepair/active").splitlines()[0] == "-"
    host.conf(node="node2", peer="node1")
    host.write("keep/journal.log", "")
    assert host.service("start").returncode == 0
    journal = host.settled()
    assert "past last=- released=-" in journal
    assert " cause " not in journal
    assert host.read("storage/.storagepair/active").splitlines()[0] == "node2"
