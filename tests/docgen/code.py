"""Where the code writes which reason: read from its syntax trees, so that the reference can't say anything else."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import storagepair_node_agent
import storagepair_operator
from storagepair_node_agent.cycle import SUBSYSTEMS
from storagepair_node_agent.subsystems import teardown
from storagepair_operator import reasons

_OPERATOR = Path(storagepair_operator.__file__).parent
_AGENT = Path(storagepair_node_agent.__file__).parent
_STATUSES = {
    **{"TRUE": "True", "FALSE": "False", "UNKNOWN": "Unknown", "True": "True", "False": "False"},
    **{"PENDING": "Pending", "RUNNING": "Running", "SUCCEEDED": "Succeeded", "FAILED": "Failed"},
}
_REASON_AT = {"State": 2, "Verdict": 1, "Objection": 0, "Move": 1}


class Unplaced(Exception):
    """The code writes a reason at a place that the reference does not know."""


@dataclass(frozen=True, order=True)
class Use:
    """A reason in a condition: of which kind and type, with which statuses (`True`, `False`, `Unknown`)."""

    kind: str
    condition: str
    reason: str
    status: str


# ------------------------------------------------------------------------------------------------- the operator

_PAIR, _LUN, _ACL, _SWITCHOVER = "StoragePair", "LUN", "InitiatorACL", "Switchover"
_ANY = ""
_PLACES: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    # module, function ("" for the others): kind and condition; "" where the call itself says the condition
    ("plan", _ANY): ((_PAIR, "Accepted"),),
    ("plan.claims", _ANY): ((_PAIR, "Accepted"),),
    ("plan.verdicts", _ANY): ((_LUN, "Accepted"), (_ACL, "Accepted")),
    ("plan.verdicts", "_of_host"): ((_LUN, "Accepted"),),
    ("plan.verdicts", "_number_in_use"): ((_LUN, "Accepted"),),
    ("plan.preconditions", _ANY): ((_SWITCHOVER, "Ready"),),
    ("plan.switchovers", _ANY): ((_SWITCHOVER, "Ready"),),
    ("summarize.machines", _ANY): ((_PAIR, "NodesReady"),),
    ("summarize.pair", _ANY): ((_PAIR, ""),),
    ("summarize.pair", "_phrase"): ((_PAIR, "Replicated"),),
    ("summarize.pair", "_ready"): ((_PAIR, "Ready"),),
    ("summarize.exports", _ANY): ((_LUN, ""), (_ACL, "")),
    ("summarize.exports", "_lun_state"): ((_LUN, ""),),
    ("summarize.exports", "_acl_state"): ((_ACL, ""),),
}
_EVENTS_ONLY = ("summarize.records", "summarize.switchovers")
# the reasons of a condition that is not False, where they are not written beside its status
_NOT_FALSE = {"Replicated": "True", "AgentSilent": "Unknown"}


@functools.cache
def operator_uses() -> frozenset[Use]:
    """Every reason that the operator's code itself writes into a condition. Raises Unplaced."""
    return frozenset(use for path in sorted(_OPERATOR.rglob("*.py")) for use in _module_uses(path))


def _module_uses(path: Path) -> Iterator[Use]:
    module = ".".join(path.relative_to(_OPERATOR).with_suffix("").parts).removesuffix(".__init__")
    if module in _EVENTS_ONLY or module == "reasons":
        return
    for function, node in _functions(ast.parse(path.read_text())):
        for name, call in _written(node):
            places = _PLACES.get((module, function)) or _PLACES.get((module, _ANY))
            if places is None:
                raise Unplaced(f"{module}.{function} writes reasons.{name}: say where in {__name__}._PLACES")
            reason = str(getattr(reasons, name))
            for kind, condition in places:
                yield Use(kind, condition or _condition(call), reason, _status(call, reason))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """The functions by name; and under no name what the module itself makes, such as a verdict that is a constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
    for node in tree.body:
        # a tuple of reasons is there to be compared with
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            yield _ANY, node


def _written(node: ast.AST, call: ast.Call | None = None) -> Iterator[tuple[str, ast.Call | None]]:
    """Each `reasons.NAME` that is not merely compared with, and the call that it is given to."""
    if isinstance(node, ast.Compare):
        return
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "reasons":
        if node.attr.isupper():
            yield node.attr, call
        return
    if isinstance(node, ast.Call) and _name(node) in _REASON_AT:
        call = node
    for child in ast.iter_child_nodes(node):
        yield from _written(child, call)


def _condition(call: ast.Call | None) -> str:
    if call is None or not isinstance(call.args[0], ast.Constant):
        raise Unplaced("a reason is given to no State with its type")
    return str(call.args[0].value)


def _status(call: ast.Call | None, reason: str) -> str:
    """A condition's status; of a Switchover its phase, which is in words what its three conditions say."""
    if call is None:
        return _NOT_FALSE.get(reason, "False")
    if _name(call) == "Objection":
        return "Refused"
    words = [ast.unparse(argument) for argument in call.args[:2]]
    return next(_STATUSES[word] for word in words if word in _STATUSES)


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


# ---------------------------------------------------------------------------------------------------- the agent

STORAGE_NODE = "StorageNode"
_AGENT_CALLS = {"Verdict": 1, "_waiting": 0, "Miss": 0}


@functools.cache
def agent_uses() -> frozenset[Use]:
    """Every reason that the agent's code writes, by the condition of the subsystem that writes it."""
    modules = {subsystem.plan.__module__.rpartition(".")[2]: subsystem.condition for subsystem in SUBSYSTEMS}
    modules["teardown"] = teardown.CONDITION  # in the others' place while a document ends the pair
    uses = set()
    for path in sorted(_AGENT.rglob("*.py")):
        written = list(_agent_reasons(ast.parse(path.read_text())))
        if not written:
            continue
        conditions = {"cycle": list(modules.values()), "report": ["Ready"]}.get(path.stem)
        if conditions is None and path.stem not in modules:
            raise Unplaced(f"{path.name} writes reasons and is no subsystem of cycle.SUBSYSTEMS")
        for condition in conditions or [modules[path.stem]]:
            uses |= {Use(STORAGE_NODE, condition, reason, status) for reason, status in written}
    return frozenset(uses)


def _agent_reasons(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or _name(call) not in _AGENT_CALLS:
            continue
        argument = call.args[_AGENT_CALLS[_name(call)]]
        values = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
        for value in values:
            if isinstance(value, ast.Constant):
                for status in _agent_statuses(call):
                    yield str(value.value), status


def _agent_statuses(call: ast.Call) -> list[str]:
    if _name(call) != "Verdict":
        return ["Unknown"] if _name(call) == "_waiting" else ["False"]
    waiting = next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "waiting"), "False")
    match ast.unparse(call.args[0]), waiting:
        case "True", _:
            return ["True"]
        case "False", ("True" | "False") as word:
            return ["Unknown" if word == "True" else "False"]
        case "False", _:
            return ["False", "Unknown"]
        case _:
            return ["True", "Unknown"]  # ready, or waiting for the action that makes it so


_MOVE_PHASES = {"refuse": "Refused", "fail": "Failed", "printf": "Succeeded"}


def move_words() -> dict[str, set[str]]:
    """What the host's script `move` says came of a planned move: each first word with the phases that it stands for."""
    found: dict[str, set[str]] = {}
    for verb, word in re.findall(
        r"\b(refuse|fail|printf) ['\"]([A-Z]\w+) ", _script("move").replace("printf 'Planned", "")
    ):
        found.setdefault(word, set()).add(_MOVE_PHASES[verb])
    return found


def _script(name: str) -> str:
    return (_AGENT / "hostfiles" / name).read_text()
