"""The failover journal: which starts were moves, why, and when; torn by a power cut or not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_crds import schema, views
from storagepair_node_agent import journal
from storagepair_node_agent.host import Host
from unit.agent import agentbuilders as a

BOOT = "8e44e900-d11e-4ef9-add2-16f1858f514f"
# real, shortened: node1 released by hb_standby, node2 took over
PLANNED = f"""
1 1795379579-node2 {BOOT} 88542 1795379579976168 start begin
1 1795379579-node2 {BOOT} 88605 1795379580606168 start promoted
1 1795379579-node2 {BOOT} 88830 1795379582856168 start mounted
1 1795379579-node2 {BOOT} 88847 1795379583026168 start past last=node1 released=1795379566879216
1 1795379579-node2 {BOOT} 88987 1795379584426168 start targets
1 1795379579-node2 {BOOT} 89073 1795379585286168 start vip
1 1795379579-node2 {BOOT} 89141 1795379585966168 start open
1 1795379579-node2 {BOOT} 89148 1795379586036168 start end ok
1 1795379579-node2 {BOOT} 89171 1795379586266168 start peer phase=released at=1795379568179216
1 1795379579-node2 {BOOT} 89177 1795379586326168 start closed
"""
UNCLEAN = PLANNED.replace("released=1795379566879216", "released=-").replace(
    "peer phase=released at=1795379568179216", "lost dead=1795379575 deadtime=5"
)
LATER = 1795379900.0


def only(text, now=LATER):
    (incident,) = journal.incidents(text, now)
    return incident


def test_a_clean_release_is_planned_and_began_when_the_port_fell_silent_there():
    incident = only(PLANNED)
    assert (incident.id, incident.cause) == ("1795379579-node2", "Planned")
    assert (incident.from_, incident.to) == ("node1", "node2")
    assert incident.start_time == "2026-11-22T20:32:46.879216Z"
    assert incident.end_time == "2026-11-22T20:33:05.966168Z"
    assert incident.milliseconds == 19086


def test_the_phases_count_from_the_beginning():
    phases = {phase.name: phase.milliseconds for phase in only(PLANNED).phases}
    assert list(phases) == ["silent", "released", "promoted", "mounted", "targets", "vip", "open"]
    assert phases["silent"] == 0
    assert phases["released"] == 1300
    assert phases["open"] == 19086


def test_a_dead_peer_was_reachable_until_deadtime_before_its_death_was_declared():
    incident = only(UNCLEAN)
    assert incident.cause == "NodeLost"
    assert incident.start_time == "2026-11-22T20:32:50.000000Z"


def test_neither_release_nor_death_is_unknown_since_the_start():
    incident = only(UNCLEAN.replace("start lost dead=1795379575 deadtime=5\n", "start nothing\n"))
    assert (incident.cause, incident.start_time) == ("Unknown", "2026-11-22T20:32:59.976168Z")


def test_the_node_that_served_last_does_not_move_to_itself():
    assert journal.incidents(PLANNED.replace("last=node1", "last=node2"), LATER) == ()


def test_the_very_first_start_is_no_move():
    assert journal.incidents(PLANNED.replace("last=node1 released=1795379566879216", "last=- released=-"), LATER) == ()


def test_a_failed_start_is_no_move():
    assert journal.incidents(PLANNED.replace("end ok", "end failed"), LATER) == ()


def test_an_incident_is_told_when_its_cause_is_settled():
    unsettled = PLANNED[: PLANNED.index("1 1795379579-node2 8e44e900-d11e-4ef9-add2-16f1858f514f 89177")]
    assert journal.incidents(unsettled, 1795379760.0) == ()
    assert only(unsettled, 1795379770.0).cause == "Planned"


def test_the_peer_s_clock_ahead_of_ours_makes_no_negative_time():
    incident = only(PLANNED.replace("released=1795379566879216", "released=1795379999000000"))
    assert incident.milliseconds == 5990
    assert all(phase.milliseconds >= 0 for phase in incident.phases)


def test_a_stop_that_came_at_once_does_not_hide_the_end_of_the_start():
    stop = f"1 1795379586-node2 {BOOT} 89150 1795379586056168 stop begin\n"
    lines = PLANNED.splitlines(keepends=True)
    assert only("".join([*lines[:-2], stop, *lines[-2:]])) == only(PLANNED)


@given(st.integers(0, len(PLANNED)))
def test_a_torn_journal_tells_nothing_false(cut):
    torn = PLANNED[:cut]
    assert journal.incidents(torn, 0.0) in ((), (only(PLANNED),))


@given(st.integers(0, len(PLANNED)))
def test_what_comes_after_a_torn_line_is_whole(cut):
    """The script begins each run with a line feed."""
    after = UNCLEAN.replace("1795379579-node2", "1795379999-node2")
    assert only(after) in journal.incidents(PLANNED[:cut] + after, LATER)


@given(st.lists(st.sampled_from([*PLANNED.splitlines(), *UNCLEAN.splitlines(), "1 2", "☃ 1"])))
def test_any_order_of_lines_is_survived(lines):
    for incident in journal.incidents("\n".join([*lines, ""]), LATER):
        assert incident.milliseconds >= 0


@given(st.text())
def test_any_text_is_survived(text):
    journal.incidents(text, LATER)


@given(*[st.integers(0, 10**17 - 1)] * 4)
def test_any_times_make_times(released, dead, deadtime, wall):
    text = PLANNED.replace("1795379566879216", str(released)).replace("1795379579976168", str(wall))
    journal.incidents(text, LATER)
    text = UNCLEAN.replace("dead=1795379575", f"dead={dead}").replace("deadtime=5", f"deadtime={deadtime}")
    journal.incidents(text, LATER)


# ---------------------------------------------------------------------------- the words of newer scripts

# as the contract of the scripts has it: node1 was asked by a Switchover, node2 took over, one initiator came back
ASKED = f"""
1 1795379579-node2 {BOOT} 88542 1795379579976168 start begin
1 1795379579-node2 {BOOT} 88605 1795379580606168 start promoted
1 1795379579-node2 {BOOT} 88700 1795379581556168 start mounted
1 1795379579-node2 {BOOT} 88710 1795379581656168 start past last=node1 released=1795379579000000
1 1795379579-node2 {BOOT} 88711 1795379581666168 start cause name=Planned request=default/to-b asked=1795379577500000
1 1795379579-node2 {BOOT} 88730 1795379581856168 start targets
1 1795379579-node2 {BOOT} 88740 1795379581956168 start vip
1 1795379579-node2 {BOOT} 88750 1795379582056168 start open
1 1795379579-node2 {BOOT} 88751 1795379582066168 start end ok
1 1795379579-node2 {BOOT} 88760 1795379582156168 start peer phase=silent at=1795379579000000
1 1795379579-node2 {BOOT} 88761 1795379582156168 start peer phase=vip-off at=1795379579200000
1 1795379579-node2 {BOOT} 88762 1795379582156168 start peer phase=targets-off at=1795379579300000
1 1795379579-node2 {BOOT} 88763 1795379582156168 start peer phase=unmounted at=1795379579500000
1 1795379579-node2 {BOOT} 88764 1795379582156168 start peer phase=asked at=1795379577400000
1 1795379579-node2 {BOOT} 88765 1795379582156168 start answered last=1795379578990000
1 1795379579-node2 {BOOT} 88800 1795379582556168 start first-login at=1795379582500000
1 1795379579-node2 {BOOT} 88810 1795379582656168 start resumed at=1795379582600000
1 1795379579-node2 {BOOT} 88811 1795379582666168 start closed
"""
RELEASED = "past last=node1 released=1795379579000000"


def test_a_switchover_s_move_names_its_request():
    incident = only(ASKED)
    assert (incident.cause, incident.request) == ("Planned", "default/to-b")
    assert incident.message == "Switchover default/to-b asked for it."
    assert incident.start_time == "2026-11-22T20:32:59.000000Z"
    assert incident.milliseconds == 3056


def test_its_timeline_goes_from_the_request_to_the_first_login():
    assert [(phase.name, phase.milliseconds) for phase in only(ASKED).phases] == [
        ("asked", -1600),
        ("silent", 0),
        ("vip-off", 200),
        ("targets-off", 300),
        ("unmounted", 500),
        ("promoted", 1606),
        ("mounted", 2556),
        ("targets", 2856),
        ("vip", 2956),
        ("open", 3056),
        ("first-login", 3500),
    ]


def test_the_pause_is_what_initiators_felt():
    assert only(ASKED).pause == views.Pause(
        last_completed_time="2026-11-22T20:32:58.990000Z",
        first_completed_time="2026-11-22T20:33:02.600000Z",
        milliseconds=3610,
    )


@pytest.mark.parametrize(
    ("without", "pause"),
    [
        ("answered", views.Pause(first_completed_time="2026-11-22T20:33:02.600000Z")),
        ("resumed", views.Pause(last_completed_time="2026-11-22T20:32:58.990000Z")),
        ("(answered|resumed)", None),
    ],
)
def test_a_pause_that_nobody_could_see_is_not_guessed(without, pause):
    assert only(re.sub(f".* start {without} .*\n", "", ASKED)).pause == pause


def test_clocks_that_contradict_each_other_make_no_pause():
    pause = only(ASKED.replace("resumed at=1795379582600000", "resumed at=1795379578000000")).pause
    assert pause.milliseconds is None
    assert pause.first_completed_time == "2026-11-22T20:32:58.000000Z"


@pytest.mark.parametrize(
    ("old", "new", "cause", "message"),
    [
        (" request=default/to-b asked=1795379577500000", "", "Planned", "node1 was asked to release the service."),
        (
            "name=Planned request=default/to-b",
            "name=ServiceNetworkLost",
            "ServiceNetworkLost",
            "node1 reached fewer of the ping addresses than its peer and released the service.",
        ),
        (
            "name=Planned request=default/to-b",
            "name=HeartbeatStopped",
            "HeartbeatStopped",
            "Heartbeat ended on node1, which released the service.",
        ),
        (
            "name=Planned request=default/to-b",
            "name=ResourceFailed",
            "ResourceFailed",
            "A part of the service failed on node1, which released it.",
        ),
        (
            "name=Planned request=default/to-b",
            "name=OperatorError",
            "OperatorError",
            "A part of the service was stopped or taken away by hand on node1.",
        ),
        ("cause name=Planned", "cause name=Boredom", "Planned", "Switchover default/to-b asked for it."),
        (RELEASED, "past last=node1 released=-", "Planned", "Switchover default/to-b asked for it."),
    ],
)
def test_the_releasing_node_s_word_is_the_cause(old, new, cause, message):
    incident = only(ASKED.replace(old, new))
    assert (incident.cause, incident.message) == (cause, message)


def test_without_a_word_a_release_is_planned_a_death_is_one_and_the_rest_unknown():
    silent = re.sub(r".* start cause .*\n", "", ASKED)
    assert only(silent).cause == "Planned"
    unclean = silent.replace(RELEASED, "past last=node1 released=-")
    incident = only(unclean)
    assert (incident.cause, incident.message) == ("Unknown", "Neither a word of node1 nor its death is known.")
    lost = unclean.replace("start answered last=1795379578990000", "start lost dead=1795379578 deadtime=5")
    incident = only(lost)
    assert (incident.cause, incident.start_time) == ("NodeLost", "2026-11-22T20:32:53.000000Z")
    assert incident.message == "Nothing was heard of node1 for 5 s: it was declared dead."


@pytest.mark.parametrize("request_", ["to-b", "default/", "a/b/c", "Default/x", "default/" + "x" * 64, "☃/x"])
def test_a_request_that_makes_no_sense_is_left_out(request_):
    incident = only(ASKED.replace("request=default/to-b", f"request={request_}"))
    assert (incident.cause, incident.request) == ("Planned", "")


_WORDS = st.sampled_from(
    ["begin", "promoted", "open", "end ok", "end failed", "closed", "past last=node1 released=-", RELEASED]
    + [
        f"{word} at={{}}"
        for word in ("peer phase=asked", "peer phase=silent", "peer phase=☃", "first-login", "resumed")
    ]
    + ["past last=node1 released={}", "answered last={}", "lost dead={} deadtime=5", "lost dead=x deadtime={}"]
    + ["cause name=Planned request=default/x asked={}", "cause name=NodeLost", "cause name=X request=x", "cause"]
    + ["peer phase=Loud at={}", "peer at={}", "unheard-of at={}"]
)
_LINES = st.lists(st.tuples(_WORDS, st.integers(0, 10**17 - 1), st.integers(0, 10**17 - 1)), max_size=20)


@given(_LINES)
def test_whatever_the_script_writes_the_status_can_be_delivered(lines):
    """One bad line must not keep all the others, and the whole status, from the API server."""
    text = "".join(f"1 17-node2 {BOOT} 1 {wall} start {word.format(at)}\n" for word, wall, at in lines)
    found = journal.incidents(text, 10**12)
    document = a.document()
    document["status"] = views.document(views.NodeStatus(incidents=found))
    assert schema.validate(document) == ()
    for incident in found:
        names = [phase.name for phase in incident.phases]
        assert len(names) == len(set(names))
        assert all(phase.milliseconds >= 0 for phase in incident.phases if phase.name != "asked")


@given(st.integers(0, len(ASKED)))
def test_a_torn_story_of_a_switchover_tells_nothing_false(cut):
    whole = only(ASKED)
    for incident in journal.incidents(ASKED[:cut], LATER):
        assert (incident.id, incident.to, incident.from_, incident.cause) == (whole.id, "node2", "node1", "Planned")
        assert set(incident.phases) <= {*whole.phases, views.Phase(name="asked", milliseconds=-1500)}


# ---------------------------------------------------------------------------- what the status tells


def host(tmp_path, text=PLANNED):
    folder = tmp_path / "var/lib/storagepair"
    folder.mkdir(parents=True)
    (folder / "journal.log").write_text(text)
    return Host(tmp_path)


def ids(incidents):
    return [incident.id for incident in incidents]


def test_what_the_operator_names_as_recorded_leaves_the_status(tmp_path):
    seen = host(tmp_path)
    assert ids(journal.undelivered(seen, (), LATER)) == ["1795379579-node2"]
    assert journal.undelivered(seen, ("1795379579-node2",), LATER) == ()


def test_what_was_recorded_once_stays_so_when_the_operator_s_list_is_trimmed(tmp_path):
    seen = host(tmp_path)
    (action,) = journal.remember(seen, ("1795379579-node2", "1700000000-node1"))
    (write,) = action.steps
    assert write.content == "1795379579-node2\n"  # only what this host could tell again
    seen.write(write.path, write.content, write.mode)
    assert journal.undelivered(seen, (), LATER) == ()
    assert journal.remember(seen, ("1795379579-node2",)) == ()


def test_a_rotated_journal_still_tells(tmp_path):
    seen = host(tmp_path, "")
    (tmp_path / "var/lib/storagepair/journal.log.1").write_text(PLANNED)
    assert ids(journal.read(seen, LATER)) == ["1795379579-node2"]


def test_no_journal_no_incidents(tmp_path):
    assert journal.read(Host(tmp_path), LATER) == ()
