"""The reference of conditions and of events: every reason that the code can write, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from storagepair_crds.words import Word
from storagepair_node_agent import reasons as agent
from storagepair_operator import reasons as operator
from storagepair_operator.plan.preconditions import PASSING
from storagepair_operator.summarize.records import SILENT
from storagepair_operator.summarize.switchovers import TOLD

from docgen.code import STORAGE_NODE, Use, agent_uses, move_words, operator_uses
from docgen.markdown import cell, page, table

KINDS = {
    "StoragePair": {
        "Ready": "The summary: the pair serves, the other machine can take over, both copies are up to date. While it "
        "is not served, or not accepted, the reason is that of Serving or of Accepted. Unknown while nothing speaks "
        "against it but that an agent is silent: what it was made from is old then.",
        "Accepted": "Whether the document is carried out on the hosts.",
        "Serving": "Whether exactly one machine serves.",
        "Replicated": "Whether both copies of the data are good, by the word of the machine that serves.",
        "NodesReady": "Whether both machines are as they shall be; the message tells of all that is wrong.",
        "Stalled": "There only while it is True: it does not go on unless somebody does something. The reason is that "
        "of Accepted, or DualPrimary.",
    },
    "LUN": {
        "Ready": "Whether the LUN is served. While it is not accepted, the reason is that of Accepted.",
        "Accepted": "Whether the LUN is part of the hosts' documents.",
        "Stalled": "There only while it is True: refused (the reason of Accepted), or Failed on the host.",
    },
    "InitiatorACL": {
        "Ready": "Whether the ACL is in force. While it is not accepted, the reason is that of Accepted.",
        "Accepted": "Whether the ACL is part of the hosts' documents.",
        "Stalled": "There only while it is True: refused. The reason is that of Accepted.",
    },
    "Switchover": {
        "Ready": "True when the service was moved as asked (phase Succeeded), False when it is refused or failed.",
        "Reconciling": "True while it is Pending or Running.",
        "Stalled": "True when it is Refused (nothing was changed) or Failed (it was begun).",
    },
    STORAGE_NODE: {
        "Ready": "The summary; the reason and the message are those of the first condition below that needs a person, "
        "else of the first that waits.",
        "Switchover": "A request to hand the service over. The node's readiness does not depend on it.",
        "Preflight": "Whether the host has what the stack needs, and the document is for it.",
        "Network": "Bonds and addresses.",
        "Replication": "DRBD and its disk.",
        "Filesystem": "The file system on the mirrored device.",
        "Heartbeat": "Heartbeat, its configuration, the guardian, and the guarded port.",
        "Targets": "tgtd, targets, LUNs and ACLs.",
        "Teardown": "How far the end of the pair is on this host; while there is one, in place of the others.",
    },
}
"""Every condition type of every kind, and what it is about."""

FALLBACK = {
    **{phase: phase for phase in ("Running", "Succeeded", "Refused", "Failed")},
    "NotInstalled": "Failed",
}
"""What the agent says of a move for which the host's script has no word of its own, with the phase."""

_HOW_TO_READ = [
    "`kubectl describe` shows them; `kubectl wait --for=condition=Ready` waits for one. `observedGeneration` says",
    "which version of the document a condition was made from.",
    "",
    "On a StorageNode False means that somebody has to do something, Unknown that it is on its way by itself.",
    "",
    "[Troubleshooting](../how-to/troubleshooting.md) starts from what you see.",
    "",
]
_EVENTS = [
    "`kubectl describe`, `kubectl events --for storagepair/NAME`. The API server forgets events after an hour; the",
    "durable history is the Failover objects and the hosts' journals. Each event is told once, in the namespace of its",
    "object. *Warning* asks for somebody.",
    "",
]


def meaning(kind: str, reason: str) -> Word:
    """What a reason means on an object of a kind: the operator's word, the agent's on a StorageNode, or the host's."""
    whose: tuple[Mapping[str, Word], ...] = (
        {str(name): word for name, word in operator.WORDS.items()},
        {str(name): word for name, word in agent.MOVE_WORDS.items()},
    )
    if kind == STORAGE_NODE:
        whose = ({str(name): word for name, word in agent.WORDS.items()},)
    elif kind == "Switchover" and reason in FALLBACK:
        whose = whose[1:]
    return next(words[reason] for words in whose if reason in words)


def uses() -> frozenset[Use]:
    """Every reason in every condition, of all parts."""
    told = {Use("Switchover", "Ready", name, phase) for name, phases in move_words().items() for phase in phases}
    told |= {Use("Switchover", "Ready", name, phase) for name, phase in FALLBACK.items()}
    passing = {Use("Switchover", "Ready", name, "Pending") for name in PASSING}
    return operator_uses() | agent_uses() | told | passing


def conditions() -> str:
    """The page docs/reference/conditions.md."""
    return page("Conditions and their reasons", _HOW_TO_READ, *(_kind(kind) for kind in KINDS))


def _kind(kind: str) -> Iterator[str]:
    yield from [f"## {kind}", ""]
    for condition, about in KINDS[kind].items():
        yield from [f"### {kind} {condition}", "", about, ""]
        rows = _rows(kind, condition)
        if rows:
            yield from table(("reason", "phase" if kind == "Switchover" else "status", "meaning", "what to do"), rows)


def _rows(kind: str, condition: str) -> list[tuple[str, ...]]:
    statuses: dict[str, set[str]] = {}
    for use in uses():
        if (use.kind, use.condition) == (kind, condition):
            statuses.setdefault(use.reason, set()).add(use.status)
    return [
        (f"`{reason}`", ", ".join(sorted(statuses[reason])), *map(cell, meaning(kind, reason)))
        for reason in sorted(statuses)
    ]


def event_uses() -> dict[str, set[tuple[str, str, str]]]:
    """Every event: by heading, its kind of object, its type and its reason."""
    turned, complaints = set(), set()
    for use in uses():
        if use.kind == STORAGE_NODE and use.status == "False":
            complaints.add(("StoragePair", "Warning", use.reason))
        if _told(use):
            turned.add((use.kind, "Normal" if use.status == "True" else "Warning", use.reason))
    moves = {(kind, type_, str(reason)) for type_, reason in TOLD.values() for kind in ("Switchover", "StoragePair")}
    return {
        "The service moved": {
            ("StoragePair", "Normal", str(operator.SWITCHOVER)),
            ("StoragePair", "Warning", str(operator.FAILOVER)),
        },
        "A Switchover went on": moves,
        "A pair that was held for its hosts ended": {
            ("StoragePair", "Normal", str(reason)) for reason in (operator.TORN_DOWN, operator.FORGOTTEN)
        },
        "An agent fell silent, or is back": {
            ("StoragePair", "Warning", str(operator.AGENT_SILENT)),
            ("StoragePair", "Normal", str(operator.AGENT_REPORTS)),
        },
        "A condition turned": turned,
        "A host complains": complaints,
    }


def _told(use: Use) -> bool:
    if use.condition == "Accepted":
        return use.status == "False"
    if use.kind != "StoragePair":
        return False
    if use.condition == "Serving":
        return use.reason not in SILENT
    return use.condition == "Ready" and use.reason in (operator.READY, operator.DEGRADED, operator.TEARING_DOWN)


_ABOUT = {
    "The service moved": "With the times, the cause, and the pause that initiators felt where the hosts saw it.",
    "A pair that was held for its hosts ended": "A deletion with the policy Teardown is over, or was let go of.",
    "A Switchover went on": "On the Switchover and on its pair.",
    "An agent fell silent, or is back": "The note names the node. Not told of a machine that the other one knows to be "
    "gone.",
    "A condition turned": "The note is the condition's message.",
    "A host complains": "A condition of a StorageNode became False; the note begins with the node and the condition.",
}


def events() -> str:
    """The page docs/reference/events.md."""
    return page("Events", _EVENTS, *(_heading(name, found) for name, found in event_uses().items()))


def _heading(name: str, found: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    yield from [f"## {name}", "", _ABOUT[name], ""]
    by_reason: dict[tuple[str, str], list[str]] = {}
    for kind, type_, reason in sorted(found):
        by_reason.setdefault((reason, type_), []).append(kind)
    rows = []
    for (reason, type_), kinds in sorted(by_reason.items()):
        word = meaning(STORAGE_NODE if name == "A host complains" else kinds[0], reason)
        rows.append((f"`{reason}`", type_, ", ".join(kinds), *map(cell, word)))
    yield from table(("reason", "type", "on", "meaning", "what to do"), rows)
