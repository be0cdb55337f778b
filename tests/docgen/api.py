"""The reference of every field, from the CRDs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from storagepair_crds.schema import definitions

from docgen.markdown import cell, code, page, table

ORDER = ("StoragePair", "LUN", "InitiatorACL", "Switchover", "Failover", "StorageNode")
_LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
}
_SKIPPED = ("apiVersion", "kind")
_INTRODUCTION = [
    "Group `storagepair.dev`, version `v1alpha1`. The same text is in the cluster: `kubectl explain storagepair.spec`.",
    "",
    "A field is optional unless it says *required*. A *rule* is judged by the API server, and offline by",
    "`storagepair validate`; a *change rule* compares with the object as it was, which only the API server can.",
    "",
]


def reference() -> str:
    """The page docs/reference/api.md."""
    found = definitions()
    names = [*ORDER, *sorted(set(found) - set(ORDER))]
    return page("The API: every field", _INTRODUCTION, *(_kind(found[name]) for name in names))


def _kind(crd: Mapping[str, Any]) -> list[str]:
    spec = crd["spec"]
    names, (version,) = spec["names"], spec["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    short = ", ".join(f"`{name}`" for name in names.get("shortNames", []))
    lines = [f"## {names['kind']}", "", cell(schema["description"]), ""]
    lines += [
        f"{'In a namespace' if spec['scope'] == 'Namespaced' else 'Of the whole cluster'}; "
        f"`kubectl get {names['plural']}`{f', short {short}' if short else ''}.",
        "",
    ]
    lines += table(("column", "what it shows"), _columns(version.get("additionalPrinterColumns", [])))
    for part in ("metadata", "spec", "status"):
        rows = list(_fields(schema["properties"].get(part, {}), part, part in schema.get("required", [])))
        if len(rows) > 1:
            lines += [f"### {names['kind']} {part}", ""]
            lines += table(("field", "type", "default", "what it is"), rows if part != "metadata" else rows[1:])
    return lines


def _columns(columns: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for column in columns:
        wide = " (`-o wide`)" if column.get("priority") else ""
        yield f"{column['name'].upper()}{wide}", cell(column.get("description", "How old it is."))


def _fields(schema: Mapping[str, Any], path: str, required: bool) -> Iterator[tuple[str, str, str, str]]:
    """Each field below `path`, the field itself first."""
    kind = _type(schema) + (", required" if required else "")
    default = code(json.dumps(schema["default"])) if "default" in schema else ""
    yield code(path), kind, default, " ".join([cell(schema.get("description", "")), *_constraints(schema)]).strip()
    inner, where = schema, path
    if schema.get("type") == "array":
        inner, where = schema["items"], f"{path}[]"
        limits = list(_constraints(inner))
        if limits or "properties" not in inner:
            yield code(where), _type(inner), "", " ".join([cell(inner.get("description", "")), *limits]).strip()
    needed = inner.get("required", [])
    for name, field in inner.get("properties", {}).items():
        if name not in _SKIPPED or path not in ("spec", "status"):
            yield from _fields(field, f"{where}.{name}", name in needed)


def _type(schema: Mapping[str, Any]) -> str:
    name = str(schema.get("type", "any"))
    if name == "array":
        return f"list of {_type(schema['items'])}"
    return "time" if schema.get("format") == "date-time" else name


def _constraints(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        yield f"One of {', '.join(code(str(value)) for value in schema['enum'])}."
    limits = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    if limits:
        text = ", ".join(limits)
        yield f"{text[0].upper()}{text[1:]}.".replace(" 1 characters", " 1 character").replace(" 1 entries", " 1 entry")
    if "pattern" in schema:
        yield f"Pattern: {code(schema['pattern'])}."
    if keys := schema.get("x-kubernetes-list-map-keys"):
        yield f"Each {', '.join(code(key) for key in keys)} once."
    for rule in schema.get("x-kubernetes-validations", []):
        word = "Change rule" if "oldSelf" in rule["rule"] else "Rule"
        yield f"{word}: {cell(rule['message'])}."
