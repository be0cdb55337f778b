"""Heartbeat on the host: installed once it may run, started where it does not, never stopped or moved by us."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from storagepair_node_agent import hostfiles
from storagepair_node_agent.actions import WriteFile
from storagepair_node_agent.subsystems import heartbeat
from unit.agent import agentbuilders as a

KEY = "ab" * 32
IPFAIL = "/usr/libexec/heartbeat/ipfail"
UNITS = frozenset((hostfiles.PORT_UNIT, hostfiles.TGT_UNIT, hostfiles.HEARTBEAT_UNIT, hostfiles.GUARDIAN_UNIT))


def desired(service="Run", authkey=KEY, **more):
    return replace(a.desired(service=service, **more), authkey=authkey)


def as_desired(wanted=None, **more):
    """A host on which everything of Heartbeat is as the document says."""
    wanted = wanted or desired()
    files = (*hostfiles.service_files(wanted), *hostfiles.heartbeat_files(wanted, IPFAIL))
    known = {
        "running": True,
        "enabled": True,
        "files": {file.path: heartbeat._fingerprint(file.content, file.mode) for file in files},
        "authkeys": "Present",
        "peer": "active",
        "links": (("bond1", "up"), ("bond0", "up")),
        "units": UNITS,
        "ipfail": IPFAIL,
    }
    return a.heartbeat(**{**known, **more})


def plan(facts, wanted=None, **parts):
    parts = {"drbd": a.drbd(up=True), "service": a.service(tgtd_running=True), **parts}
    return heartbeat.plan(wanted or desired(), a.snapshot(heartbeat=facts, **parts))


def test_nothing_before_the_document_says_run():
    outcome = plan(a.heartbeat(ipfail=IPFAIL), desired("Prepare"))
    assert outcome.actions == ()
    assert outcome.verdict.waiting


def test_from_bare_to_running_one_group_a_pass():
    bare = a.heartbeat(ipfail=IPFAIL)
    assert a.names(plan(bare)) == ["heartbeat.install"]
    assert a.names(plan(as_desired(running=False, units=frozenset()))) == ["heartbeat.enable"]
    stopped = a.service(tgtd_running=False)
    assert a.names(plan(as_desired(running=False), service=stopped)) == ["heartbeat.start-tgt"]
    assert a.names(plan(as_desired(running=False))) == ["heartbeat.start-heartbeat"]
    assert a.names(plan(as_desired(guardian=False))) == ["heartbeat.start-storagepair-guardian"]
    outcome = plan(as_desired())
    assert (outcome.verdict.ready, outcome.actions) == (True, ())


def test_ha_cf_is_written_last_and_no_step_shows_the_key():
    (install,) = plan(a.heartbeat(ipfail=IPFAIL)).actions
    written = [step.path for step in install.steps if isinstance(step, WriteFile)]
    assert written[-1] == hostfiles.HA_CF
    assert hostfiles.AUTHKEYS in written
    assert KEY not in install.describe()


def test_the_units_are_known_before_they_are_enabled():
    (install,) = plan(a.heartbeat(ipfail=IPFAIL)).actions
    assert "run systemctl daemon-reload" in a.steps(install)
    assert f"run {hostfiles.PORT} load" in a.steps(install)


def test_a_running_guardian_gets_new_scripts_without_losing_a_takeover_that_it_is_carrying_out():
    facts = a.heartbeat(ipfail=IPFAIL, guardian=True)
    (install,) = plan(facts).actions
    assert a.steps(install)[-1].startswith(f"run flock -w 90 {hostfiles.LOCK} systemctl try-restart")
    (install,) = plan(replace(facts, guardian=False)).actions
    assert not any("try-restart" in step for step in a.steps(install))


def test_a_changed_file_is_written_again_and_nothing_else():
    facts = as_desired()
    files = {**facts.files, hostfiles.HARESOURCES: "something else"}
    (install,) = plan(replace(facts, files=files)).actions
    assert [step.path for step in install.steps] == [hostfiles.HARESOURCES]


def test_a_key_that_is_on_the_host_stays():
    assert plan(as_desired(), desired(authkey=None)).verdict.ready
    outcome = plan(as_desired(authkey_matches=False))
    assert outcome.actions == ()
    assert outcome.verdict.reason == "AuthkeyDiffers"


def test_without_any_key_it_waits():
    outcome = plan(a.heartbeat(ipfail=IPFAIL), desired(authkey=None))
    assert (outcome.verdict.reason, outcome.actions) == ("WaitingForAuthkey", ())


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"foreign": (hostfiles.HA_CF,)}, "ForeignHeartbeat"),
        ({"tgt_config_iqns": ("/etc/tgt/targets.conf: iqn.x",)}, "TargetInTgtConfiguration"),
        ({"ipfail": ""}, "IpfailMissing"),
    ],
)
def test_what_is_somebody_else_s_stays_and_is_said(more, reason):
    wanted = desired()
    spec = msgspec.structs.replace(wanted.spec.heartbeat, ping_addresses=("10.10.25.254",))
    wanted = replace(wanted, spec=msgspec.structs.replace(wanted.spec, heartbeat=spec))
    outcome = plan(a.heartbeat(**{"ipfail": IPFAIL, **more}), wanted)
    assert (outcome.verdict.reason, outcome.actions, outcome.verdict.waiting) == (reason, (), False)
    assert "node1" in outcome.verdict.message


def test_a_changed_configuration_of_a_running_heartbeat_is_told_not_forced():
    outcome = plan(as_desired(config_pending=True))
    assert (outcome.verdict.reason, outcome.actions) == ("RestartPending", ())
    assert "systemctl restart heartbeat" in outcome.verdict.message


def test_heartbeat_is_started_once_and_not_before_drbd():
    assert plan(as_desired(running=False, starting=True)).actions == ()
    assert plan(as_desired(running=False), drbd=a.drbd(up=False)).verdict.reason == "WaitingForReplication"


class TestThePairsVeryFirstStart:
    """The first node of spec.nodes serves first, however far apart the two agents are."""

    NODE2 = replace(desired(), node="node2")
    BOTH_SECONDARY = a.drbd(up=True, role="Secondary", peer_role="Secondary")

    def start(self, wanted=NODE2, has_run=False, **mirror):
        facts = as_desired(wanted, running=False, has_run=has_run)
        return plan(facts, wanted, drbd=replace(self.BOTH_SECONDARY, **mirror))

    def test_the_second_node_waits_for_the_first_one_to_serve(self):
        outcome = self.start()
        assert (outcome.verdict.reason, outcome.verdict.waiting, outcome.actions) == ("WaitingForPreferred", True, ())
        assert "node1" in outcome.verdict.message
        assert a.names(self.start(peer_role="Primary")) == ["heartbeat.start-heartbeat"]

    def test_the_first_node_waits_for_nobody(self):
        assert a.names(self.start(desired())) == ["heartbeat.start-heartbeat"]

    def test_a_first_node_that_is_away_is_not_waited_for(self):
        assert a.names(self.start(peer_role="Unknown")) == ["heartbeat.start-heartbeat"]

    def test_no_later_start_waits(self):
        assert a.names(self.start(has_run=True)) == ["heartbeat.start-heartbeat"]

    def test_a_start_by_hand_is_a_start(self):
        facts = as_desired(self.NODE2, has_run=False)
        assert plan(facts, self.NODE2, drbd=self.BOTH_SECONDARY).verdict.ready


def test_a_masked_heartbeat_is_a_person_s_word_and_is_not_started():
    outcome = plan(as_desired(running=False, masked=True, units=UNITS - {hostfiles.HEARTBEAT_UNIT}))
    assert (outcome.verdict.reason, outcome.verdict.waiting, outcome.actions) == ("Masked", False, ())
    assert "systemctl unmask heartbeat" in outcome.verdict.message
    assert plan(as_desired(masked=True)).verdict.reason == "Running", "it runs until it is stopped"


@pytest.mark.parametrize("folder", ["/etc", "/run"])
def test_a_mask_is_a_link_to_nothing_and_a_unit_of_ones_own_is_none(tmp_path, folder):
    host = a.Answering(tmp_path, {("systemctl", "is-active", "heartbeat.service"): (3, "inactive\n")})
    unit = f"{folder}/systemd/system/heartbeat.service"
    put(host, unit, "[Unit]\n")
    assert not heartbeat.observe(host, desired()).masked
    host.path(unit).unlink()
    host.path(unit).symlink_to("/dev/null")
    assert heartbeat.observe(host, desired()).masked


def test_the_port_s_table_comes_back():
    outcome = plan(as_desired(), service=a.service(tgtd_running=True, port_table=False))
    assert a.names(outcome) == ["heartbeat.load-port"]


def test_a_dead_link_to_a_living_peer_is_named():
    verdict = plan(as_desired(links=(("bond1", "dead"), ("bond0", "up")))).verdict
    assert verdict.reason == "LinkDown"
    assert "bond1" in verdict.message
    assert plan(as_desired(peer="dead", links=(("bond1", "dead"), ("bond0", "dead")))).verdict.ready


def test_what_can_t_be_seen_changes_nothing():
    assert plan(None).actions == ()
    assert plan(as_desired(running=False), service=None).actions == ()


# ---------------------------------------------------------------------------- looking


ANSWERS = {
    ("cl_status", "hbstatus"): (0, "Heartbeat is running on this machine.\n"),
    ("cl_status", "nodestatus", "node2"): (0, "active\n"),
    ("cl_status", "hblinkstatus", "node2", "bond1"): (0, "up\n"),
    ("cl_status", "hblinkstatus", "node2", "bond0"): (0, "dead\n"),
}


def put(host, path, text, mode=0o644):
    host.write(path, text, mode)


def install(host, wanted):
    for file in (*hostfiles.service_files(wanted), *hostfiles.heartbeat_files(wanted, IPFAIL)):
        put(host, file.path, file.content, file.mode)
    put(host, IPFAIL, "", 0o755)
    put(host, hostfiles.AUTHKEYS, hostfiles.authkeys(KEY).content, 0o600)
    for unit in UNITS:
        put(host, f"/etc/systemd/system/multi-user.target.wants/{unit}", "")


def test_a_host_set_up_by_us_is_seen_as_desired(tmp_path):
    host, wanted = a.Answering(tmp_path, ANSWERS), desired()
    install(host, wanted)
    put(host, "/run/heartbeat.pid", "    783\n")
    put(host, "/proc/783/stat", "")
    put(host, hostfiles.RUNNING_HA_CF, host.read(hostfiles.HA_CF))
    put(host, "/sys/fs/cgroup/system.slice/storagepair-guardian.service/cgroup.procs", "801\n")
    assert not heartbeat.observe(host, wanted).has_run
    put(host, "/var/lib/heartbeat/hb_uuid", "")
    facts = heartbeat.observe(host, wanted)
    assert facts == as_desired(wanted, links=(("bond1", "up"), ("bond0", "dead")))
    assert plan(facts, wanted).verdict.reason == "LinkDown"


def test_looking_again_forks_only_when_heartbeat_logged_something(tmp_path):
    host, wanted = a.Answering(tmp_path, ANSWERS), desired()
    put(host, "/run/heartbeat.pid", "783\n")
    put(host, "/proc/783/stat", "")
    put(host, "/var/log/ha-log", "a\n")
    heartbeat.observe(host, wanted)
    host.asked.clear()
    heartbeat.observe(host, wanted)
    assert host.asked == []
    put(host, "/var/log/ha-log", "a\nb\n")
    heartbeat.observe(host, wanted)
    assert len(host.asked) == 4


def test_a_heartbeat_that_died_after_a_successful_start_is_not_running(tmp_path):
    host = a.Answering(tmp_path, {("systemctl", "is-active", "heartbeat.service"): (3, "inactive\n")})
    facts = heartbeat.observe(host, desired())
    assert (facts.running, facts.starting) == (False, False)


def test_files_of_a_stranger_are_seen_as_such(tmp_path):
    host = a.Answering(tmp_path, {})
    put(host, hostfiles.HA_CF, "udpport 694\nbcast eth0\n")
    put(host, hostfiles.AUTHKEYS, "auth 1\n1 crc\n")
    facts = heartbeat.observe(host, desired())
    assert facts.foreign == (hostfiles.HA_CF, hostfiles.AUTHKEYS)
    assert facts.authkeys == "Absent"


def test_a_wrong_mode_is_a_difference(tmp_path):
    host, wanted = a.Answering(tmp_path, ANSWERS), desired()
    install(host, wanted)
    host.path(hostfiles.RESOURCE_SCRIPT).chmod(0o644)
    (action,) = plan(replace(heartbeat.observe(host, wanted), running=True), wanted).actions
    assert [step.path for step in action.steps] == [hostfiles.RESOURCE_SCRIPT]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<target {iqn}>\n  backing-store /dev/vdb\n</target>\n", True),
        ("# <target {iqn}>\n", False),
        ("<target {iqn}2>\n</target>\n", False),
    ],
)
def test_our_target_in_tgt_s_own_configuration_is_found(tmp_path, text, found):
    host, wanted = a.Answering(tmp_path, {}), desired()
    iqn = wanted.spec.targets[0].iqn
    put(host, "/etc/tgt/conf.d/mine.conf", text.format(iqn=iqn))
    assert heartbeat.observe(host, wanted).tgt_config_iqns == ((f"/etc/tgt/conf.d/mine.conf: {iqn}",) if found else ())
