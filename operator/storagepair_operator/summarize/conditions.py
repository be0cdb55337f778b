"""Conditions as metav1.Condition has them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from storagepair_crds.views import Condition

from storagepair_operator import moments
from storagepair_operator.plan.model import Verdict

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


class State(NamedTuple):
    """What a condition says, without its dates."""

    type: str
    status: str
    reason: str
    message: str


def accepted(verdict: Verdict) -> State:
    """The condition Accepted of a verdict."""
    return State("Accepted", TRUE if verdict.accepted else FALSE, verdict.reason, verdict.message)


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of a type."""
    return next((condition for condition in conditions if condition.type == type_), None)


def turn(old: Iterable[Condition], states: Iterable[State], generation: int, now: datetime) -> tuple[Condition, ...]:
    """The conditions as they are now; `lastTransitionTime` moves with the status alone."""
    before = {condition.type: condition for condition in old}
    return tuple(_turn(before.get(state.type), state, generation, now) for state in states)


def _turn(before: Condition | None, state: State, generation: int, now: datetime) -> Condition:
    same = before is not None and before.status == state.status
    return Condition(
        type=state.type,
        status=state.status,
        reason=state.reason,
        message=state.message,
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and same else moments.seconds(now),
    )
