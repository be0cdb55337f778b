"""The CRDs as data: documents are validated and defaulted by the very files that the API server gets.

`validate()` checks what the OpenAPI schema says: types, patterns, enums, bounds, unique list entries, and fields that
no schema knows (which the API server would prune silently). The CRDs' CEL rules (`x-kubernetes-validations`:
immutability and what spans several fields) are NOT evaluated here: the hosts carry no CEL library (`storagepair
validate` does). What a host must be sure of is therefore said by patterns and bounds in the StorageNode schema, not by
CEL alone.

Source of the semantics: the documentation of apiextensions.k8s.io/v1 (structural schemas, defaulting, pruning).
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.resources
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import yaml

from storagepair_crds.offline import offline_schema, validator_class
from storagepair_crds.quantity import QuantityError, parse_quantity
from storagepair_crds.views.base import API_VERSION, VERSION

__all__ = [
    "Problem",
    "QuantityError",
    "SchemaError",
    "apply_defaults",
    "definitions",
    "openapi_schema",
    "parse_quantity",
    "path_text",
    "validate",
]

Json = Any  # dicts with string keys, lists, strings, numbers, booleans, None


class SchemaError(Exception):
    """No CRD of this package has the kind."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with a document. `field` is a path such as `spec.nodes[0].disk`, "" for the whole."""

    kind: str
    name: str
    field: str
    message: str
    keyword: str = dataclasses.field(default="", compare=False)  # of the schema that refuses it, such as `pattern`

    def __str__(self) -> str:
        what = " ".join(part for part in (self.kind, self.name) if part) or "document"
        return f"{what}: {self.field}: {self.message}" if self.field else f"{what}: {self.message}"


@cache
def definitions() -> Mapping[str, Mapping[str, Json]]:
    """Our CustomResourceDefinitions by kind, read from the package's data. Not to be changed by the caller."""
    folder = importlib.resources.files("storagepair_crds") / "schemas"
    loaded = [yaml.safe_load(entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return MappingProxyType({crd["spec"]["names"]["kind"]: crd for crd in loaded})


def openapi_schema(kind: str) -> Mapping[str, Json]:
    """The `openAPIV3Schema` of a kind, as the CRD has it; raises `SchemaError` for a kind that is not ours."""
    try:
        crd = definitions()[kind]
    except KeyError:
        raise SchemaError(f"{kind!r} is none of our kinds ({', '.join(sorted(definitions()))})") from None
    schema: Mapping[str, Json] = next(
        version["schema"]["openAPIV3Schema"] for version in crd["spec"]["versions"] if version["name"] == VERSION
    )
    return schema


@cache
def _validator(kind: str) -> Json:
    return validator_class()(offline_schema(openapi_schema(kind), kind, API_VERSION))


def validate(document: Json) -> tuple[Problem, ...]:
    """Everything that is wrong with a document of one of our kinds, in the order of the fields; () when it is good.

    Defaults need not be filled in; a null is wrong (`apply_defaults` drops it, as the API server does).
    """
    if not isinstance(document, dict):
        return (Problem("", "", "", "must be a mapping with apiVersion, kind, metadata and spec"),)
    kind, metadata = document.get("kind"), document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    shown = (kind if isinstance(kind, str) else "", name if isinstance(name, str) else "")
    if not isinstance(kind, str) or kind not in definitions():
        return (Problem(*shown, "kind", f"must be one of {', '.join(sorted(definitions()))}"),)
    errors = _validator(kind).iter_errors(document)
    found = {Problem(*shown, path_text(error.absolute_path), error.message, str(error.validator)) for error in errors}
    return tuple(sorted(found))


def path_text(parts: Iterable[str | int]) -> str:
    """A field's path as people write it.

    >>> path_text(["spec", "nodes", 0, "disk"])
    'spec.nodes[0].disk'
    """
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def apply_defaults(document: Mapping[str, Json]) -> dict[str, Json]:
    """A copy of a document of one of our kinds with the schema's defaults filled in, as the API server does it.

    A null counts as absent, and a default is filled in only where its parent is there. Raises `SchemaError` for a kind
    that is not ours. What the document has wrong stays wrong: `validate` tells.
    """
    result = copy.deepcopy(dict(document))
    _default(result, openapi_schema(str(document.get("kind"))))
    return result


def _default(value: Json, schema: Mapping[str, Json]) -> None:
    if isinstance(value, list) and "items" in schema:
        for item in value:
            _default(item, schema["items"])
    if not isinstance(value, dict):
        return
    properties: Mapping[str, Mapping[str, Json]] = schema.get("properties", {})
    for name, part in properties.items():
        if value.get(name, ...) is None and not part.get("nullable", False):
            del value[name]
        if name not in value and "default" in part:
            value[name] = copy.deepcopy(part["default"])
        if name in value:
            _default(value[name], part)
