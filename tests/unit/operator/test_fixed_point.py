"""Whatever the hosts and objects look like: carrying a plan out ends, and takes nothing that was not asked for."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from storagepair_crds.views import NodeSpec
from storagepair_operator.plan import Plan, plan
from storagepair_operator.snapshot import FINALIZER, Declared, Intent, Observed, Snapshot
from storagepair_operator.summarize import summarize
from unit.operator.builders import (
    NOW,
    SECRETS,
    acl,
    entry,
    failover,
    incident,
    lone,
    lun,
    node,
    ready,
    served,
    silent,
    snapshot,
    status,
    with_spec,
    written,
)

NAMES = ("a", "b", "c")
STATES = st.sampled_from(["Present", "Absent"])
REPORTS = st.sampled_from(["Serving", "Ready", "Failed", "Absent"])
ENTRIES = st.builds(
    lambda states, number: tuple(
        entry(name, state=state, number=number if name == "a" else None) for name, state in states.items()
    ),
    st.dictionaries(st.sampled_from(NAMES), STATES),
    st.sampled_from([None, 1, 2]),
)
STATUSES = st.builds(
    lambda role, told, moved, cut, healthy, generation: (lone if cut else lambda same: same)(
        status(
            role,
            luns=tuple(served(name, index + 1, state=state) for index, (name, state) in enumerate(told.items())),
            incidents=tuple(incident(id_) for id_ in moved),
            conditions=(ready("True" if healthy else "False", generation=generation),),
            observed_generation=generation,
        )
    ),
    st.sampled_from(["Active", "Standby"]),
    st.dictionaries(st.sampled_from(NAMES), REPORTS),
    st.lists(st.sampled_from(["i1", "i2"]), unique=True),
    st.booleans(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2]),
)
LUNS = st.lists(
    st.builds(
        lambda name, number, size, target, deleted, held: lun(
            name, number=number, size=size, target=target, deleted=deleted, held=held or deleted
        ),
        st.sampled_from(NAMES),
        st.sampled_from([None, 1, 2]),
        st.sampled_from(["64Mi", "32Mi"]),
        st.sampled_from(["default", "gone"]),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda each: each.metadata.name,
)
ACLS = st.lists(
    st.builds(
        lambda name, target, deleted: acl(name, target=target, deleted=deleted),
        st.sampled_from(NAMES),
        st.sampled_from(["default", "gone"]),
        st.booleans(),
    ),
    unique_by=lambda each: each.metadata.name,
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Snapshot, dict[str, Intent]]:
    """A snapshot of anything that hosts and users may have left, and what its deletions mean."""
    things = (*draw(LUNS), *draw(ACLS))
    nodes = written(snapshot(*draw(ACLS)), (draw(STATUSES), draw(STATUSES)))
    for name in list(nodes):
        nodes[name] = with_spec(nodes, luns=draw(ENTRIES), service=draw(st.sampled_from(["Prepare", "Run"])))[name]
    present = draw(st.sampled_from([("node1", "node2"), ("node1",), ()]))
    view = snapshot(
        *things,
        nodes={name: nodes[name] for name in present},
        failovers=[failover(id_) for id_ in draw(st.sets(st.sampled_from(["i1", "i2"])))],
    )
    meanings = st.sampled_from([Intent.REMOVE, Intent.FORGET, None])
    intents = {thing.metadata.uid: draw(meanings) for thing in things if thing.metadata.deletion_timestamp}
    return view, {uid: intent for uid, intent in intents.items() if intent is not None}


def carried_out(view: Snapshot, done: Plan) -> Snapshot:
    """The world after the operator has written a plan, as the API server would have it."""
    nodes = dict(view.nodes)
    for name, spec in done.nodes.items():
        nodes[name] = _replaced(nodes.get(name), name, spec)
    gone = {thing.metadata.uid for thing in done.release}
    held = {thing.metadata.uid for thing in done.hold}
    return Snapshot(
        key=view.key,
        pair=view.pair,
        luns=tuple(_held(each, held) for each in view.luns if each.metadata.uid not in gone),
        acls=tuple(_held(each, held) for each in view.acls if each.metadata.uid not in gone),
        failovers=view.failovers,
        nodes=nodes,
        pairs=view.pairs,
    )


def _replaced(seen: Observed | None, name: str, spec: NodeSpec) -> Observed:
    if seen is None:
        return node(name, spec)
    if seen.node.spec == spec:
        return seen
    about = msgspec.structs.replace(seen.node.metadata, generation=seen.node.metadata.generation + 1)
    return Observed(msgspec.structs.replace(seen.node, metadata=about, spec=spec), seen.reported)


def _held(thing: Declared, held: set[str]) -> Declared:
    if thing.metadata.uid not in held:
        return thing
    return msgspec.structs.replace(thing, metadata=msgspec.structs.replace(thing.metadata, finalizers=(FINALIZER,)))


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_carrying_out_plans_comes_to_rest(world: tuple[Snapshot, dict[str, Intent]]) -> None:
    view, intents = world
    for _ in range(4):
        done = plan(view, intents, SECRETS, NOW)
        after = carried_out(view, done)
        if after == view:
            break
        view = after
    assert after == view
    assert plan(view, intents, SECRETS, NOW) == done
    assert done.hold == done.release == ()


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_nothing_is_taken_from_a_host_that_was_not_asked_for(world: tuple[Snapshot, dict[str, Intent]]) -> None:
    view, intents = world
    meant = {each.metadata.name for each in view.luns if intents.get(each.metadata.uid) is Intent.REMOVE}
    decided = {each.name for seen in view.nodes.values() for each in seen.node.spec.luns if each.state == "Absent"}
    for name, spec in plan(view, intents, SECRETS, NOW).nodes.items():
        states = {each.name: each.state for each in spec.luns}
        before = view.nodes[name].node.spec.luns if name in view.nodes else ()
        for each in before:
            if each.name not in meant | decided:
                assert states[each.name] == "Present"


SINCE = st.sampled_from([None, "", "2026-03-01T11:50:00Z"])


@given(worlds(), SINCE, SINCE)
@settings(max_examples=200, deadline=None)
def test_nothing_is_planned_by_an_agents_silence(
    world: tuple[Snapshot, dict[str, Intent]], one: str | None, two: str | None
) -> None:
    view, intents = world
    assert plan(silent(view, node1=one, node2=two), intents, SECRETS, NOW) == plan(view, intents, SECRETS, NOW)


@given(worlds(), SINCE, SINCE)
@settings(max_examples=200, deadline=None)
def test_statuses_come_to_rest_and_then_nothing_is_told(
    world: tuple[Snapshot, dict[str, Intent]], one: str | None, two: str | None
) -> None:
    view, intents = world
    view = silent(view, node1=one, node2=two)
    done = plan(view, intents, SECRETS, NOW)
    told = summarize(view, done, NOW)
    assert view.pair is not None
    assert told.pair is not None
    pair = msgspec.structs.replace(view.pair, status=told.pair)
    after = Snapshot(
        key=view.key,
        pair=pair,
        luns=tuple(msgspec.structs.replace(each, status=told.luns[each.metadata.name]) for each in view.luns),
        acls=tuple(msgspec.structs.replace(each, status=told.acls[each.metadata.name]) for each in view.acls),
        failovers=(*view.failovers, *told.failovers),
        nodes=view.nodes,
        pairs={view.key: pair},
    )
    again = summarize(after, plan(after, intents, SECRETS, NOW), NOW + timedelta(minutes=5))
    counted = msgspec.structs.replace(told.pair, failovers=len(after.failovers))
    assert (again.pair, dict(again.luns), dict(again.acls)) == (counted, dict(told.luns), dict(told.acls))
    assert again.failovers == ()
    assert again.events == ()
