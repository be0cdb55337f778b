"""The CRDs' CEL rules (`x-kubernetes-validations`), as far as they can be judged without a cluster.

As on the API server a rule sees the defaulted document, and one that needs the object as it was (`oldSelf`) says
nothing about a new one. Those, and rules that use what the library does not know, are listed by `unchecked`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.celtypes import BoolType
from celpy.evaluation import CELEvalError, base_functions
from storagepair_crds.schema import openapi_schema, path_text

from storagepair_cli.kubernetescel import FUNCTIONS
from storagepair_cli.model import Json, Unchecked

_MACROS = frozenset({"has", "all", "exists", "exists_one", "map", "filter"})
_KNOWN = _MACROS | FUNCTIONS.keys() | base_functions.keys()
_NEEDS_OLD = "it compares with the object that the cluster has"

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that a document breaks, or (`why` is set) that could not be evaluated on it."""

    field: str
    rule: str
    message: str
    why: str = ""


def broken(document: Mapping[str, Json]) -> Iterator[Broken]:
    """The rules that a document of one of our kinds breaks. It must be defaulted, and fit the schema in form."""
    for rule, value, path in _on(openapi_schema(document["kind"]), dict(document), ()):
        if _obstacle(rule["rule"]):
            continue
        field = path_text(path) + rule.get("fieldPath", "")
        message = " ".join(rule.get("message", f"breaks the rule {rule['rule']}").split())
        outcome = _evaluate(rule["rule"], value)
        if isinstance(outcome, str):
            yield Broken(field.removeprefix("."), rule["rule"], message, outcome)
        elif not outcome:
            yield Broken(field.removeprefix("."), rule["rule"], message)


@cache
def unchecked(kind: str) -> tuple[Unchecked, ...]:
    """The rules of a kind that can't be judged here, each with the reason."""
    result = []
    for rule, path in _all(openapi_schema(kind), ""):
        if why := _obstacle(rule["rule"]):
            field = (path + rule.get("fieldPath", "")).removeprefix(".")
            result.append(Unchecked(kind, field, rule["rule"], " ".join(rule.get("message", "").split()), why))
    return tuple(result)


def _on(schema: Mapping[str, Json], value: Json, path: Path) -> Iterator[tuple[Mapping[str, Json], Json, Path]]:
    """Each rule with the value that it is about."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield rule, value, path
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name in value:
                yield from _on(part, value[name], (*path, name))
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _on(schema.get("items", {}), entry, (*path, index))


def _all(schema: Mapping[str, Json], path: str) -> Iterator[tuple[Mapping[str, Json], str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield rule, path
    for name, part in schema.get("properties", {}).items():
        yield from _all(part, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from _all(schema["items"], f"{path}[]")


@cache
def _environment() -> celpy.Environment:
    return celpy.Environment()


@cache
def _compiled(text: str) -> tuple[celpy.Runner | None, str]:
    """The program, or why there is none."""
    try:
        tree = _environment().compile(text)
    except CELParseError as error:
        return None, f"the library does not understand it: {str(error).splitlines()[0]}"
    words = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"'[^']*'|\"[^\"]*\"", "", text)))
    if "oldSelf" in words:
        return None, _NEEDS_OLD
    called = {str(call.children[0] if call.data == "ident_arg" else call.children[1]) for call in _calls(tree)}
    if unknown := sorted(called - _KNOWN):
        return None, f"the library does not know {', '.join(unknown)}"
    return _environment().program(tree, functions=dict(FUNCTIONS)), ""


def _calls(tree: Any) -> Iterator[Any]:  # noqa: ANN401 - lark's tree
    return tree.find_pred(lambda part: part.data in ("ident_arg", "member_dot_arg"))  # type: ignore[no-any-return]


def _obstacle(text: str) -> str:
    return _compiled(text)[1]


def _evaluate(text: str, value: Json) -> bool | str:
    """Whether the rule holds, or why it could not be told."""
    # the interpreter takes milliseconds, and the same sizes and names come again and again
    return _of_scalar(text, value) if isinstance(value, (str, int)) else _of_any(text, value)


@lru_cache(maxsize=10_000, typed=True)
def _of_scalar(text: str, value: str | int) -> bool | str:
    return _of_any(text, value)


def _of_any(text: str, value: Json) -> bool | str:
    program, why = _compiled(text)
    if program is None:
        return why
    try:
        outcome = program.evaluate({"self": json_to_cel(value)})
    except (CELEvalError, ValueError, TypeError, ArithmeticError) as error:
        return f"it could not be evaluated: {str(error.args[0] if error.args else error)[:200]}"
    return bool(outcome) if isinstance(outcome, (bool, BoolType)) else f"it gave {type(outcome).__name__}"
