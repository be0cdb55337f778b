"""What all views share. Typed, immutable views of our kinds' documents (group `storagepair.dev`, version `v1alpha1`).

The CRD files beside this module are the one schema; a view says the same in Python types. `view(kind, document)`
reads a document that the schema has accepted; `document(struct)` gives the camelCase document back, without the
fields that hold their default. Unknown fields are left out: validation (schema.py) is what refuses them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import msgspec

GROUP = "storagepair.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Struct(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A part of a document: immutable, camelCase outside, snake_case inside."""


Json = Any  # dicts with string keys, lists, strings, numbers, booleans, None
T = TypeVar("T", bound=Struct)


def view(kind: type[T], source: object) -> T:
    """The typed view of a document; raises `msgspec.ValidationError` that names the field (`$.spec.nodes[0].disk`)."""
    return msgspec.convert(source, kind)


def document(struct: Struct) -> dict[str, Any]:
    """The camelCase document (dicts, lists, strings, numbers) of a view; fields at their default are left out.

    Equal views give equal documents. (msgspec's own encoder tells a default by identity, so that a 7788 that was read
    would stay and a 7788 that was not would go: two documents for one view.)
    """
    result: dict[str, Any] = {}
    for name, outside, default in _fields(type(struct)):
        value = getattr(struct, name)
        if value != default:
            result[outside] = _plain(value)
    return result


@cache
def _fields(kind: type[Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Of each field: its name, its name in the document, its default (a value that equals nothing when required)."""
    return tuple(
        (
            field.name,
            field.encode_name,
            field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory(),
        )
        for field in msgspec.structs.fields(kind)
    )


def _plain(value: Json) -> Json:
    if isinstance(value, Struct):
        return document(value)
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return str(value) if isinstance(value, str) else value  # a StrEnum is a plain string outside


class Metadata(Struct, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    finalizers: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class Condition(Struct, frozen=True, kw_only=True):
    """As metav1.Condition. `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""
