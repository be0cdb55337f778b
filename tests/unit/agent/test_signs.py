"""Signs of life: a Lease that is renewed while the loop works and what it sees is known, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from storagepair_node_agent import loop, signs
from storagepair_node_agent.actions import Verdict
from storagepair_node_agent.api import ApiError
from unit.agent.loopworld import BAD, WORKING, World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class TestSignsOfLife:
    """What the operator hears of the agent: that its cycle works, and that what it sees is known."""

    def later(self, monkeypatch, seconds):
        now = loop.time.monotonic() + seconds
        monkeypatch.setattr(loop.time, "monotonic", lambda: now)

    def test_come_with_turns_and_not_with_each(self, world, monkeypatch):
        world.put()
        for _ in range(5):
            world.turn()
        assert world.api.renewals == 1
        self.later(monkeypatch, signs.RENEW_SECONDS)
        world.turn()
        assert world.api.renewals == 2

    def test_are_not_given_for_a_node_without_a_document(self, world):
        world.turn()
        assert world.api.renewals == 0

    def test_are_given_by_an_agent_that_has_to_refuse_its_document(self, world):
        world.put(**BAD)
        world.turn()
        assert world.api.renewals == 1

    def test_are_given_between_actions_and_while_one_goes_on_and_on(self, world, monkeypatch):
        world.put()

        def run(desired, offset, go_on):
            for _ in range(2):
                self.later(monkeypatch, signs.RENEW_SECONDS)
                go_on(WORKING)
                self.later(monkeypatch, signs.RENEW_SECONDS)
                world.host.meanwhile()
            return world.cycle.result

        world.cycle.run = run
        world.turn()
        assert world.api.renewals == 4

    def test_stop_with_a_loop_that_is_stuck(self, world, monkeypatch):
        world.put()
        world.turn()
        self.later(monkeypatch, 1e6)
        assert world.api.renewals == 1

    def test_wait_until_the_status_is_taken(self, world, monkeypatch):
        """Or a report that the API server refuses would leave the one before it for ever, and nobody would know."""
        world.put()
        patch = world.api.patch_status
        monkeypatch.setattr(world.api, "patch_status", lambda given: (_ for _ in ()).throw(ApiError("no", 422)))
        world.turn()
        assert world.api.renewals == 0
        monkeypatch.setattr(world.api, "patch_status", patch)
        self.later(monkeypatch, 60)
        world.turn()
        assert (world.api.writes, world.api.renewals) == (1, 1)

    def test_go_on_when_there_is_nothing_to_deliver_any_more(self, world, monkeypatch):
        world.put()
        world.turn()
        good = world.cycle.result
        world.cycle.result = replace(good, verdicts={"Network": Verdict(False, "MissingMember", "eth1 is gone")})
        world.api.away = True
        world.turn()
        world.api.away, world.cycle.result = False, good
        self.later(monkeypatch, 60)
        world.turn()
        assert (world.api.writes, world.api.renewals) == (1, 2)

    @pytest.mark.parametrize("status", [0, 403, 404, 409])
    def test_that_fail_disturb_nothing_are_said_once_and_tried_again(self, world, monkeypatch, caplog, status):
        def refuse():
            raise ApiError("no Lease for you", status)

        renew = world.api.renew_lease
        monkeypatch.setattr(world.api, "renew_lease", refuse)
        world.put()
        for _ in range(3):
            world.turn()
            self.later(monkeypatch, signs.RENEW_SECONDS)
        assert (len(world.cycle.given), world.api.writes) == (3, 1)
        assert caplog.text.count("is not renewed") == 1
        monkeypatch.setattr(world.api, "renew_lease", renew)
        world.turn()
        assert world.api.renewals == 1


def test_a_busy_server_is_asked_for_a_sign_of_life_no_sooner_than_it_wants(monkeypatch):
    class Busy:
        asked = 0

        def renew_lease(self):
            self.asked += 1
            raise ApiError("too many requests", 429, retry_after_seconds=50)

    api = Busy()
    given = signs.Signs(api)
    for now in (0.0, 20.0, 49.0, 50.0):
        monkeypatch.setattr(loop.time, "monotonic", lambda now=now: now)
        given.give()
    assert api.asked == 2
