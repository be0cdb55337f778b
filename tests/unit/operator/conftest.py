"""Whatever these tests make the operator write, the reference must know it."""

from __future__ import annotations

from typing import Any

import pytest
from docgen import words
from storagepair_operator import reasons
from storagepair_operator.summarize import conditions, model, records, switchovers

CONDITIONS = {(use.condition, use.reason) for use in words.uses()}
EVENTS = {(kind, type_, reason) for found in words.event_uses().values() for kind, type_, reason in found}
PASSED_ON = ("Ready", "Stalled", "Reconciling")  # these have the reason of another condition


@pytest.fixture(autouse=True)
def in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a condition or an event is written with a reason that the reference does not have there.

    A word that is not the operator's is an agent's, and these tests invent agents' words.
    """
    turn, event = conditions._turn, model.Event

    def watched_turn(before: Any, state: conditions.State, *more: Any) -> Any:
        if state.reason in reasons.WORDS and state.type not in PASSED_ON:
            assert (state.type, str(state.reason)) in CONDITIONS
        return turn(before, state, *more)

    def watched_event(**fields: Any) -> model.Event:
        if fields["reason"] in reasons.WORDS:
            assert (fields["kind"].name, fields["type"], str(fields["reason"])) in EVENTS
        return event(**fields)

    monkeypatch.setattr(conditions, "_turn", watched_turn)
    monkeypatch.setattr(records, "Event", watched_event)
    monkeypatch.setattr(switchovers, "Event", watched_event)
