"""Switchovers: what no order of events may bring about."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from storagepair_crds.views import NodeStatus
from storagepair_operator import moments
from storagepair_operator.plan import Plan
from storagepair_operator.snapshot import Observed
from storagepair_operator.summarize import summarize
from unit.operator.builders import (
    NOW,
    failover,
    lone,
    outcome,
    running,
    status,
    switchover,
)
from unit.operator.switchoverworld import FINAL, at

_NAMES = ("a", "b", "c")
_ROLES = st.sampled_from(
    [
        ("Active", "Standby"),
        ("Active", "Standby"),
        ("Standby", "Active"),
        ("Standby", "Standby"),
        ("lost", "Standby"),
        ("silent", "lost"),
    ]
)


@st.composite
def happenings(draw: st.DrawFn) -> tuple[str, Any]:
    """One thing that happens in a world of a pair, its users, its hosts and its operator."""
    what = draw(
        st.sampled_from(
            ["ask", "ask", "delete", "report", "outcome", "record", "forget", "wait", "operator", "operator"]
        )
    )
    if what == "ask":
        return what, (
            draw(st.sampled_from(_NAMES)),
            draw(st.sampled_from(["node1", "node2", "node2", "node2", "node3"])),
        )
    if what == "report":
        return what, draw(_ROLES)
    if what == "outcome":
        return what, (draw(st.sampled_from(_NAMES)), draw(st.sampled_from(FINAL)))
    if what == "wait":
        return what, draw(st.sampled_from([1, 20, 200]))
    return what, draw(st.sampled_from(_NAMES))


class _World:
    """Plays happenings. Each write of the operator may be the last before a crash: statuses or documents are lost."""

    def __init__(self) -> None:
        self.now = NOW
        self.view = running()
        self.roles = ("Active", "Standby")
        self.count = 0
        self.over: dict[str, str] = {}

    def play(self, what: str, value: Any) -> None:
        getattr(self, f"_{what}")(value)
        self._check()

    def _ask(self, value: tuple[str, str]) -> None:
        name, to = value
        if any(each.metadata.name == name for each in self.view.switchovers):
            return
        self.count += 1
        made = switchover(name, to, created=moments.seconds(self.now))
        about = msgspec.structs.replace(made.metadata, uid=f"uid-{self.count}")
        self.view = replace(
            self.view, switchovers=(*self.view.switchovers, msgspec.structs.replace(made, metadata=about))
        )

    def _delete(self, name: str) -> None:
        left = tuple(each for each in self.view.switchovers if each.metadata.name != name)
        self.view = replace(self.view, switchovers=left)

    def _report(self, value: tuple[str, str]) -> None:
        self.roles = value
        known = {
            "Active": status("Active"),
            "Standby": status(),
            "lost": lone(status("Active")),
            "silent": NodeStatus(),
        }
        nodes = {}
        for (name, seen), role in zip(self.view.nodes.items(), value, strict=True):
            kept = seen.node.status.switchover
            told_ = msgspec.structs.replace(
                known[role],
                switchover=kept,
                observed_generation=-1 if role == "silent" else seen.node.metadata.generation,
            )
            nodes[name] = Observed(msgspec.structs.replace(seen.node, status=told_), moments.seconds(self.now))
        self.view = replace(self.view, nodes=nodes)

    def _outcome(self, value: tuple[str, str]) -> None:
        """A host that is asked says what came of it."""
        name, word = value
        nodes = dict(self.view.nodes)
        for host, seen in nodes.items():
            asked = seen.node.spec.switchover
            request = next((each for each in self.view.switchovers if each.metadata.name == name), None)
            if asked is not None and request is not None and asked.uid == request.metadata.uid:
                told_ = msgspec.structs.replace(seen.node.status, switchover=outcome(request, word))
                nodes[host] = Observed(msgspec.structs.replace(seen.node, status=told_), seen.reported)
        self.view = replace(self.view, nodes=nodes)

    def _record(self, name: str) -> None:
        if all(each.metadata.name != f"vmstore-{name}" for each in self.view.failovers):
            self.view = replace(self.view, failovers=(*self.view.failovers, failover(name, request=f"default/{name}")))

    def _forget(self, name: str) -> None:
        self.view = replace(
            self.view, failovers=tuple(each for each in self.view.failovers if each.metadata.name != f"vmstore-{name}")
        )

    def _wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def _operator(self, crash: str) -> None:
        """A reconcile; "a" and "b" stand for a crash after the documents, and for one before them."""
        done = at(self.view, self.now)
        statuses = summarize(self.view, done, self.now).switchovers
        if crash != "b":
            self._write(done)
        if crash != "a":
            self.view = replace(
                self.view,
                switchovers=tuple(
                    msgspec.structs.replace(each, status=statuses.get(each.metadata.name, each.status))
                    for each in self.view.switchovers
                ),
            )

    def _write(self, done: Plan) -> None:
        nodes = dict(self.view.nodes)
        for name, spec in done.nodes.items():
            seen = nodes[name]
            if seen.node.spec != spec:
                about = msgspec.structs.replace(seen.node.metadata, generation=seen.node.metadata.generation + 1)
                nodes[name] = Observed(msgspec.structs.replace(seen.node, spec=spec, metadata=about), seen.reported)
        self.view = replace(self.view, nodes=nodes)

    def _check(self) -> None:
        going = [each for each in self.view.switchovers if each.status.phase == "Running"]
        assert len(going) <= 1
        for each in self.view.switchovers:
            before = self.over.get(each.metadata.uid)
            assert before in (None, each.status.phase), "a final phase stays"
            if each.status.phase in FINAL:
                self.over[each.metadata.uid] = each.status.phase
        specs = at(self.view, self.now).nodes
        wanted = [(name, spec.switchover) for name, spec in specs.items() if spec.switchover is not None]
        assert len(wanted) <= 1
        for name, asked in wanted:
            assert [each.metadata.uid for each in going] == [asked.uid], "asked for only while it is Running"
            assert name != asked.to


@given(st.lists(happenings(), min_size=12, max_size=30))
@settings(max_examples=400, deadline=None)
def test_never_two_at_once_and_never_a_final_one_again(script: list[tuple[str, Any]]) -> None:
    world_ = _World()
    for what, value in script:
        world_.play(what, value)


@given(st.lists(happenings(), max_size=20))
@settings(max_examples=100, deadline=None)
def test_whatever_happened_it_comes_to_an_end(script: list[tuple[str, Any]]) -> None:
    """Left to itself everything is final within the time for an outcome, and nothing is asked of a host any more."""
    world_ = _World()
    for what, value in script:
        world_.play(what, value)
    for _ in range(2 * len(_NAMES) + 1):
        world_.play("wait", 200)
        world_.play("operator", "c")
    assert all(each.status.phase in FINAL for each in world_.view.switchovers)
    world_.play("operator", "c")
    assert all(seen.node.spec.switchover is None for seen in world_.view.nodes.values())
    assert at(world_.view, world_.now).wake is None
