"""Conditions as metav1.Condition has them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from storagepair_crds.views import Condition

from storagepair_operator import moments, reasons
from storagepair_operator.plan.model import Verdict

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


_LONGEST = 32768
"""The CRDs' limit of a message. One that is longer would be refused with its whole status, again and again."""


class State(NamedTuple):
    """What a condition says, without its dates."""

    type: str
    status: str
    reason: reasons.Reason
    message: str


def accepted(verdict: Verdict) -> State:
    """The condition Accepted of a verdict."""
    return State("Accepted", TRUE if verdict.accepted else FALSE, verdict.reason, verdict.message)


_WAITS_FOR_SOMEBODY = (reasons.FAILED, reasons.DUAL_PRIMARY)


def stalled(ready: State, verdict: Verdict) -> tuple[State, ...]:
    """The condition Stalled, which is there only while it is True: what does not go on unless somebody does something.

    A document is refused, a host could not do it, or both machines are primary. This is kstatus' word for "failed"; a
    pair that may still come is waited for (docs/decisions/0012).
    """
    if not verdict.accepted and verdict.reason != reasons.PAIR_NOT_FOUND:
        return (State("Stalled", TRUE, verdict.reason, verdict.message),)
    if ready.reason in _WAITS_FOR_SOMEBODY:
        return (State("Stalled", TRUE, ready.reason, ready.message),)
    return ()


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
        message=state.message if len(state.message) <= _LONGEST else state.message[: _LONGEST - 1] + "…",
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and same else moments.seconds(now),
    )
