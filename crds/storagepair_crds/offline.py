"""A CRD's structural schema as one that `jsonschema` understands, with messages for people.

Kubernetes' dialect differs from JSON Schema: unknown fields are pruned (here: a problem), lists have merge keys that
must be unique, `nullable` and `x-kubernetes-int-or-string` stand for types, exclusive bounds are flags, patterns are
RE2's.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

Json = Any
Errors = Iterator[ValidationError]

# said elsewhere or by the API server only; `pattern`s stay, see _pattern
_DROPPED = frozenset({"default", "nullable", "x-kubernetes-validations", "x-kubernetes-int-or-string"})
_INTEGER_RANGE = {"int32": 2**31, "int64": 2**63}
_SHOWN = 80  # characters of a value that a message repeats


def offline_schema(schema: Mapping[str, Json], kind: str, api_version: str) -> dict[str, Json]:
    """The JSON Schema of whole documents of a kind: closed, with apiVersion, kind and a named metadata required."""
    root = _convert(schema)
    properties = root["properties"]
    properties["apiVersion"] = {"const": api_version}
    properties["kind"] = {"const": kind}
    # the API server owns the rest of metadata
    metadata = {
        "type": "object",
        "if": {"not": {"required": ["generateName"]}},  # a name that the API server makes is none of ours to check
        "then": {"required": ["name"]},
        "properties": {"name": {"type": "string", "minLength": 1}},
    }
    own_name = schema["properties"]["metadata"].get("properties", {}).get("name", {})
    metadata["properties"]["name"] |= _convert(own_name)  # type: ignore[index]
    properties["metadata"] = metadata
    root["required"] = ["apiVersion", "kind", "metadata", *root.get("required", [])]
    return root


def _convert(schema: Mapping[str, Json]) -> dict[str, Json]:
    """One schema node and all below it; what jsonschema has no word for is translated or dropped."""
    result = {key: value for key, value in schema.items() if key not in _DROPPED}
    for key in ("items", "additionalProperties", "not"):
        if isinstance(result.get(key), dict):
            result[key] = _convert(result[key])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in result:
            result[key] = [_convert(branch) for branch in result[key]]
    if "properties" in result:
        result["properties"] = {name: _convert(part) for name, part in result["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    if schema.get("nullable"):
        types = result.get("type", [])
        result["type"] = [*([types] if isinstance(types, str) else types), "null"]
        if "enum" in result:
            result["enum"] = [*result["enum"], None]
    for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(result.get(flag), bool) and result.pop(flag):
            result[flag] = result.pop(bound)
    # a field with a default is never missing after defaulting, so it needs no value here
    if "required" in result:
        defaulted = {name for name, part in schema.get("properties", {}).items() if "default" in part}
        result["required"] = [name for name in result["required"] if name not in defaulted]
    return result


@cache
def validator_class() -> Json:
    """jsonschema's validator class (it has no public type) with our keywords and messages."""
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    keywords: dict[str, Callable[..., Errors]] = {
        "required": _required,
        "additionalProperties": _additional_properties,
        "pattern": _pattern,
        "not": _not,
        "format": _format,
        "x-kubernetes-list-type": _list_type,
    }
    keywords |= {keyword: _reworded(keyword, words) for keyword, words in _WORDS.items()}
    return extend(Draft202012Validator, keywords, type_checker=types)  # type: ignore[no-untyped-call]


def _is_integer(_checker: object, value: Json) -> bool:
    # neither True nor 1.0: the typed views refuse them too
    return isinstance(value, int) and not isinstance(value, bool)


def _show(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _list(names: list[Json]) -> str:
    return ", ".join(str(name) for name in names)


def _type_name(value: Json) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number"}
    return "null" if value is None else names.get(type(value), "a number")


_WORDS: dict[str, Callable[[Json, Json], str]] = {
    "type": lambda wanted, value: f"must be of type {wanted}, not {_type_name(value)}",
    "const": lambda wanted, value: f"must be {wanted}, not {_show(value)}",
    "enum": lambda wanted, value: f"must be one of {_list(wanted)}, not {_show(value)}",
    "minimum": lambda wanted, value: f"must be at least {wanted}, not {value}",
    "maximum": lambda wanted, value: f"must be at most {wanted}, not {value}",
    "multipleOf": lambda wanted, value: f"must be a multiple of {wanted}, not {value}",
    "minLength": lambda wanted, _: f"must have at least {wanted} character(s)",
    "maxLength": lambda wanted, _: f"must have at most {wanted} characters",
    "minItems": lambda wanted, value: f"must have at least {wanted} entries, not {len(value)}",
    "maxItems": lambda wanted, value: f"must have at most {wanted} entries, not {len(value)}",
}


def _reworded(keyword: str, words: Callable[[Json, Json], str]) -> Callable[..., Errors]:
    original: Any = Draft202012Validator.VALIDATORS[keyword]

    def check(validator: Json, wanted: Json, instance: Json, schema: Json) -> Errors:
        for _error in original(validator, wanted, instance, schema) or ():
            yield ValidationError(words(wanted, instance))

    return check


def _required(_validator: object, wanted: list[str], instance: Json, _schema: Json) -> Errors:
    if isinstance(instance, dict):
        for name in wanted:
            if name not in instance:
                yield ValidationError("is required", path=(name,))


def _additional_properties(validator: Json, wanted: Json, instance: Json, schema: Json) -> Errors:
    if not isinstance(instance, dict):
        return
    known = schema.get("properties", {})
    for name, value in instance.items():
        if name in known:
            continue
        if wanted is False:
            yield ValidationError("is not a field that the schema knows", path=(str(name),))
        elif isinstance(wanted, dict):
            yield from validator.descend(value, wanted, path=name)


def _matches(pattern: str, text: str) -> bool:
    # RE2's `$` is the very end; Python's would let a trailing newline through
    return re.search(re.sub(r"(?<!\\)\$", r"\\Z", pattern), text, re.ASCII) is not None


def _pattern(_validator: object, wanted: str, instance: Json, schema: Json) -> Errors:
    if isinstance(instance, str) and not _matches(wanted, instance):
        meaning = schema.get("description") or f"what matches {wanted}"
        yield ValidationError(f"{_show(instance)} is not valid; valid is: {meaning}")


def _not(validator: Json, wanted: Json, instance: Json, schema: Json) -> Errors:
    if validator.evolve(schema=wanted).is_valid(instance):
        yield ValidationError(f"{_show(instance)} is not allowed; valid is: {schema.get('description', '')}")


def _format(_validator: object, wanted: str, instance: Json, _schema: Json) -> Errors:
    limit = _INTEGER_RANGE.get(wanted)
    if limit is not None and isinstance(instance, int) and not -limit <= instance < limit:
        yield ValidationError(f"{instance} does not fit into {wanted}")
    if wanted == "date-time" and isinstance(instance, str) and not _is_date_time(instance):
        yield ValidationError(f"{_show(instance)} is not an RFC 3339 time such as 2026-01-31T12:34:56.789012Z")


def _is_date_time(text: str) -> bool:
    form = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
    if re.fullmatch(form, text) is None:
        return False
    try:
        datetime.datetime.fromisoformat(text[:19].upper())
    except ValueError:
        return False
    return True


def _list_type(_validator: object, wanted: str, instance: Json, schema: Json) -> Errors:
    """`set`: no entry twice; `map`: no two entries with the same keys."""
    if not isinstance(instance, list) or wanted == "atomic":
        return
    keys = schema.get("x-kubernetes-list-map-keys", [])
    seen = set()
    for index, entry in enumerate(instance):
        if wanted == "map":
            if not isinstance(entry, dict):
                continue
            entry = {key: entry.get(key) for key in keys}
        text = json.dumps(entry, sort_keys=True, default=str)
        if text in seen:
            yield ValidationError(f"is there twice: {_show(entry)}", path=(index,))
        seen.add(text)
