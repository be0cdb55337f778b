"""The loop's turns, with a host that is a folder and an API server that is an object."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from storagepair_crds import views
from storagepair_node_agent import documents, loop
from storagepair_node_agent.actions import Verdict
from storagepair_node_agent.cycle import Pass
from unit.agent import agentbuilders as a
from unit.agent.loopworld import BAD, WORKING, World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_without_a_document_nothing_is_done(world):
    world.turn()
    assert (world.cycle.given, world.api.writes) == ([], 0)


def test_a_document_is_carried_out_kept_and_reported(world):
    world.put(generation=4)
    status = world.turn()
    assert world.cycle.given[0].generation == status["observedGeneration"] == 4
    assert documents.kept(world.host)["metadata"]["generation"] == 4
    assert world.condition("Ready")["status"] == "True"


def test_at_rest_nothing_is_written(world):
    world.put()
    for _ in range(5):
        world.turn()
    assert world.api.writes == 1
    world.start()
    world.follower.offer(world.api.document)
    world.turn()
    assert world.api.writes == 1


def test_the_kept_document_serves_while_the_api_is_away(world):
    world.put(generation=4)
    world.turn()
    world.api.away = True
    world.start()
    world.turn()
    assert world.cycle.given[0].generation == 4


def test_a_status_is_delivered_when_the_api_is_back(world, monkeypatch):
    world.put()
    world.api.away = True
    world.turn()
    assert world.api.writes == 0
    world.api.away = False
    world.turn()
    assert world.api.writes == 0  # it waits a moment before it tries again
    monkeypatch.setattr(loop.time, "monotonic", lambda: 1e9)
    world.turn()
    assert world.api.writes == 1


@pytest.mark.parametrize(
    ("known", "true", "away", "believed"),
    [(2.0, 99.0, False, 2.0), (99.0, 1.0, False, 1.0), (99.0, 98.0, False, 98.0), (99.0, 0.0, True, None)],
)
def test_a_bad_clock_is_asked_for_again_before_it_is_believed(world, known, true, away, believed):
    world.put()
    world.api.clock_offset_seconds, world.api.true_offset, world.api.away = known, true, away
    world.turn()
    assert world.cycle.offset == believed


def test_a_deleted_object_takes_nothing_from_the_host(world):
    world.put(generation=4)
    world.turn()
    world.follower.offer(None)
    world.turn()
    assert [desired.generation for desired in world.cycle.given] == [4, 4]


class TestABadDocument:
    def test_is_told_and_what_was_wanted_before_stands(self, world):
        world.put(generation=1)
        world.turn()
        world.put(generation=2, **BAD)
        status = world.turn()
        assert [desired.generation for desired in world.cycle.given] == [1, 1]
        assert world.condition("Ready")["reason"] == "InvalidDocument"
        assert "spec.filesystem.type" in world.condition("Ready")["message"]
        assert status["observedGeneration"] == 1
        assert documents.kept(world.host)["metadata"]["generation"] == 1

    def test_alone_changes_nothing(self, world):
        world.put(**BAD)
        world.turn()
        assert world.cycle.given == []
        assert world.condition("Ready")["status"] == "False"

    def test_is_written_once(self, world):
        world.put(**BAD)
        for _ in range(4):
            world.turn()
        assert world.api.writes == 1

    def test_and_a_good_one_after_it(self, world):
        world.put(**BAD)
        world.turn()
        world.put(generation=2)
        world.turn()
        assert world.condition("Ready")["status"] == "True"


def test_a_recreated_object_is_taken_even_at_the_same_generation(world):
    world.put(generation=1)
    world.turn()
    document = {**world.api.document, "metadata": {**world.api.document["metadata"], "uid": "u2"}, "status": {}}
    document["spec"] = {**document["spec"], "service": "Run"}
    world.follower.offer(document)
    world.turn()
    assert world.cycle.given[-1].spec.service == "Run"


class TestTheAuthkey:
    def test_is_not_read_before_it_is_needed(self, world):
        world.put()
        world.turn()
        assert (world.api.secret_reads, world.cycle.given[0].authkey) == (0, None)

    def test_is_read_once_for_a_document(self, world):
        world.put(service="Run")
        for _ in range(3):
            world.turn()
        world.put(generation=2, service="Run")
        world.turn()
        assert world.api.secret_reads == 2
        assert {desired.authkey for desired in world.cycle.given} == {"key"}

    def test_is_in_no_file_status_or_log(self, world, caplog):
        caplog.set_level(logging.DEBUG)
        world.put(service="Run")
        world.turn()
        assert '"key"' not in str(world.api.document) + world.host.read(documents.KEPT) + caplog.text

    def test_that_can_t_be_read_stops_nothing(self, world):
        world.put(service="Run")
        world.api.away = True
        world.turn()
        assert world.cycle.given[0].authkey is None


def test_the_sentence_is_said_when_it_differs_or_something_was_done(world, caplog):
    caplog.set_level(logging.INFO)
    world.put()
    for _ in range(3):
        world.turn()
    assert caplog.text.count("all is as desired") == 1
    world.cycle.result = replace(world.cycle.result, done=("bonds.create",))
    world.turn()
    world.turn()
    assert caplog.text.count("did bonds.create") == 2


def test_a_status_that_nobody_can_read_is_replaced(world):
    world.put()
    world.api.document["status"] = {"conditions": "nonsense", "bonds": [{"name": "b"}], "stale": 1}
    world.follower.offer(world.api.document)
    status = world.turn()
    assert "stale" not in status
    assert world.condition("Ready")["status"] == "True"


def test_incidents_that_the_operator_recorded_are_remembered_as_an_action_once(world, monkeypatch):
    noted = []
    monkeypatch.setattr(loop.journal, "remember", lambda host, delivered: noted.append(delivered) or ())
    world.put(deliveredIncidents=["1-node1"])
    world.turn()
    assert noted == [("1-node1",)]


LATER = Pass(a.snapshot(), {"Network": Verdict(False, "Making", "one bond is made", waiting=True)}, ("bonds.create",))


class TestBetweenActions:
    def test_a_first_set_up_is_told_before_it_is_over(self, world, monkeypatch):
        told = []
        patch = world.api.patch_status
        monkeypatch.setattr(world.api, "patch_status", lambda given: told.append(patch(given)) or told[-1])
        world.put()
        world.cycle.on_the_way = [WORKING, WORKING, LATER]
        world.turn()
        messages = [document["status"]["conditions"][1]["message"] for document in told]
        assert messages == ["the bonds are being made", "one bond is made", "good"]
        assert told[0]["status"]["observedGeneration"] == 1

    def test_a_ready_machine_says_nothing_of_a_change_that_takes_a_moment(self, world):
        world.put()
        world.turn()
        world.cycle.on_the_way = [WORKING, LATER]
        world.turn()
        assert world.api.writes == 1

    def test_a_ready_machine_tells_of_a_change_that_takes_long(self, world, monkeypatch):
        world.put()
        world.turn()
        world.cycle.on_the_way = [WORKING]
        now = loop.time.monotonic()
        monkeypatch.setattr(loop.time, "monotonic", lambda: now + 3)
        world.turn()
        assert world.api.writes == 3
        assert world.condition("Ready")["status"] == "True"

    def test_a_newer_document_is_not_kept_waiting(self, world):
        world.put()
        world.cycle.on_the_way = [WORKING, LATER]
        world.turn()
        assert world.cycle.went_on == [True, True]
        world.put(generation=2)
        document = world.follower.latest
        asked = []

        def run(desired, offset, go_on):
            asked.append(go_on(WORKING))  # nothing was done yet: one step is taken in any case
            world.follower.offer({**document, "metadata": {**document["metadata"], "generation": 3}})
            asked.extend([go_on(WORKING), go_on(LATER)])
            return LATER

        world.cycle.run = run
        world.turn()
        assert asked == [True, True, False]

    def test_an_api_that_is_away_is_not_asked_before_every_action(self, world, monkeypatch):
        world.put()
        world.api.away = True
        tries = []
        monkeypatch.setattr(world.api, "patch_status", lambda given: tries.append(1) or world.api._check())
        world.cycle.on_the_way = [WORKING, LATER, WORKING, LATER]
        world.turn()
        assert len(tries) == 1


def test_what_can_t_be_noted_as_recorded_stays_in_the_status(world, monkeypatch):
    """Or the record could be trimmed, and then the host would tell of the move again."""
    move = views.Incident(id="1-node1", cause="Planned", to="node1", start_time="t", end_time="t", milliseconds=1)
    known = lambda host, delivered, now: () if "1-node1" in delivered else (move,)  # noqa: E731
    monkeypatch.setattr(loop.journal, "undelivered", known)

    def full(host, delivered):
        raise OSError("disk full")

    monkeypatch.setattr(loop.journal, "remember", full)
    world.put(deliveredIncidents=["1-node1"])
    assert [told["id"] for told in world.turn()["incidents"]] == ["1-node1"]
    monkeypatch.setattr(loop.journal, "remember", lambda host, delivered: ())
    assert "incidents" not in world.turn()


@pytest.mark.parametrize("watched", [{"generation": 2}, {"uid": "u2"}, None], ids=["newer", "recreated", "deleted"])
def test_what_the_watch_tells_while_a_status_is_delivered_is_not_taken_back_by_the_answer(world, monkeypatch, watched):
    world.put()
    patch = world.api.patch_status

    def overtaken(given):
        answer = patch(given)
        metadata = answer["metadata"] | (watched or {})
        world.follower.offer({**answer, "metadata": metadata} if watched else None)
        return answer

    monkeypatch.setattr(world.api, "patch_status", overtaken)
    world.turn()
    latest = world.follower.latest
    assert (latest and latest["metadata"]) == (world.api.document["metadata"] | watched if watched else None)


def test_an_answer_that_is_newer_than_the_watch_is_taken_and_looked_at(world, monkeypatch):
    world.put()
    woken = []
    monkeypatch.setattr(world.follower, "_wake", lambda: woken.append(True))
    newer = world.api.document | {"metadata": world.api.document["metadata"] | {"generation": 2}}
    world.follower.answered_with(newer)
    assert (world.follower.latest, woken) == (newer, [True])


@pytest.mark.parametrize(
    ("turn_seconds", "settled", "expected"),
    [
        (0.03, True, 5.0),  # an ordinary host: the interval decides
        (0.03, False, 5.0),
        (0.5, True, 9.5),  # a slow one: a twentieth of the time
        (0.5, False, 5.0),
        (8.0, False, 8.0),  # something is still to come: half of the time
        (8.0, True, 15.0),  # never so seldom that the operator would miss a sign of life
        (60.0, False, 15.0),
    ],
)
def test_looking_gives_way_to_what_the_host_is_for(turn_seconds, settled, expected):
    assert loop.pause(5.0, turn_seconds, settled=settled) == pytest.approx(expected)


def test_a_longer_interval_is_kept():
    assert loop.pause(60.0, 8.0, settled=True) == 60.0


def test_settled_is_a_cycle_that_found_all_as_desired_and_did_nothing(world):
    assert not world.loop.settled
    world.put()
    world.turn()
    assert world.loop.settled
    world.cycle.result = replace(world.cycle.result, done=("bonds.create",))
    world.put(generation=2)
    world.turn()
    assert not world.loop.settled
