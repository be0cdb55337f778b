"""The typed views say the same as the CRDs, field by field, and documents survive the way there and back."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from storagepair_crds import views
from storagepair_crds.schema import apply_defaults, openapi_schema, validate

KINDS = {
    "StoragePair": views.StoragePair,
    "LUN": views.LUN,
    "InitiatorACL": views.InitiatorACL,
    "Failover": views.Failover,
    "Switchover": views.Switchover,
    "StorageNode": views.StorageNode,
}
SAMPLES = Path(__file__).parents[3] / "manifests" / "samples" / "storagepair.yaml"
SCALARS = {str: "string", int: "integer", bool: "boolean"}
EMPTY: tuple[Any, ...] = ("", (), None, {})  # what an absent field means without a default in the schema


def _present(kind: Any) -> Any:
    """The type of a field that is there: `Pause` for `Pause | None`."""
    if get_origin(kind) in (types.UnionType, Union):
        (kind,) = (option for option in get_args(kind) if option is not types.NoneType)
    return kind


def _parts(
    kind: type[views.Struct], schema: dict[str, Any], path: str
) -> Iterator[tuple[Any, dict[str, Any], str, Any]]:
    """Every field below a view: the field, its own schema, its path, its parent's schema."""
    for field in msgspec.structs.fields(kind):
        where = f"{path}.{field.encode_name}"
        assert field.encode_name in schema["properties"], f"{where} is in the view and not in the schema"
        own = schema["properties"][field.encode_name]
        yield field, own, where, schema
        inner, below = field.type, own
        if get_origin(inner) is tuple:
            inner, below = get_args(inner)[0], own["items"]
        inner = _present(inner)
        if isinstance(inner, type) and issubclass(inner, views.Struct):
            yield from _parts(inner, below, where)


def _all_parts() -> list[Any]:
    parts = []
    for name, kind in KINDS.items():
        for field in msgspec.structs.fields(kind):
            if field.name != "metadata":
                own = openapi_schema(name)["properties"][field.encode_name]
                parts.append((field, own, f"{name}.{field.encode_name}", openapi_schema(name)))
                parts.extend(_parts(field.type, own, f"{name}.{field.encode_name}"))
    return parts


PARTS = _all_parts()


@pytest.mark.parametrize(("field", "schema", "path", "parent"), PARTS, ids=[part[2] for part in PARTS])
def test_field_is_the_same_in_view_and_schema(
    field: Any, schema: dict[str, Any], path: str, parent: dict[str, Any]
) -> None:
    assert _schema_type(field.type) == schema["type"], path
    assert field.required == (field.encode_name in parent.get("required", [])), f"{path}: required"
    _assert_same_default(field, schema, path)
    if get_origin(field.type) is tuple and get_args(field.type)[1] is not Ellipsis:
        assert schema["minItems"] == schema["maxItems"] == len(get_args(field.type)), path
    present = _present(field.type)
    if isinstance(present, type) and issubclass(present, views.Struct):
        names = {inner.encode_name for inner in msgspec.structs.fields(present)}
        assert set(schema["properties"]) == names, f"{path}: fields of the schema and of the view"
    if get_origin(field.type) is tuple and issubclass(get_args(field.type)[0], views.Struct):
        names = {inner.encode_name for inner in msgspec.structs.fields(get_args(field.type)[0])}
        assert set(schema["items"]["properties"]) == names, f"{path}: fields of the schema and of the view"


def _schema_type(kind: Any) -> str:
    kind = _present(kind)
    if get_origin(kind) is tuple:
        return "array"
    return "object" if issubclass(kind, views.Struct) else SCALARS[kind]


def _assert_same_default(field: Any, schema: dict[str, Any], path: str) -> None:
    default = field.default
    if isinstance(default, views.Struct):
        # the schema's default of an object may leave its own fields' defaults to them
        assert "default" in schema, path
        assert msgspec.convert(schema["default"], field.type) == default, path
    elif "default" in schema:
        assert schema["default"] == default, path
        assert type(schema["default"]) is type(default), path
    elif not field.required:
        assert default in EMPTY, f"{path}: the view has the default {default!r}, the schema none"


def test_no_kind_is_forgotten() -> None:
    from storagepair_crds.schema import definitions

    assert set(definitions()) == set(KINDS)
    for name, kind in KINDS.items():
        fields = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert set(openapi_schema(name)["properties"]) == fields | {"apiVersion", "kind"}


# ------------------------------------------------------------------------------------------ there and back


def _values(kind: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type can hold, its default often."""
    if get_origin(kind) in (types.UnionType, Union):
        return st.one_of(*(_values(option) for option in get_args(kind)))
    if get_origin(kind) is tuple:
        inner, *more = get_args(kind)
        if more == [Ellipsis]:
            return st.lists(_values(inner), max_size=2).map(tuple)
        return st.tuples(_values(inner), *(_values(option) for option in more))
    if kind is types.NoneType:
        return st.none()
    if get_origin(kind) is dict:
        return st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
    if issubclass(kind, views.Struct):
        return _structs(kind)
    if kind is bool:
        return st.booleans()
    return st.integers(-(2**53), 2**53) if kind is int else st.text(max_size=8)


def _structs(kind: type[views.Struct]) -> st.SearchStrategy[Any]:
    arguments = {}
    for field in msgspec.structs.fields(kind):
        arguments[field.name] = _values(field.type)
        if not field.required and field.default is not msgspec.NODEFAULT:
            arguments[field.name] |= st.just(field.default)
    return st.builds(kind, **arguments)


@given(st.sampled_from(sorted(KINDS)).flatmap(lambda name: _structs(KINDS[name])))
def test_a_view_survives_its_document(struct: Any) -> None:
    written = views.document(struct)
    read = views.view(type(struct), written)
    assert read == struct
    assert views.document(read) == written


def test_the_samples_survive_their_views() -> None:
    for document in yaml.safe_load_all(SAMPLES.read_text()):
        kind = KINDS[document["kind"]]
        defaulted = apply_defaults(document)
        struct = views.view(kind, document)
        assert struct == views.view(kind, defaulted)
        again = {"apiVersion": views.API_VERSION, "kind": document["kind"], **views.document(struct)}
        assert validate(again) == ()
        assert apply_defaults(again) == defaulted


def test_a_default_is_left_out_however_it_came_there() -> None:
    """One view, one document: msgspec's own encoder would keep a default that was read and is another object."""
    read = views.view(views.PairReplication, {"bond": "bond1", "port": int("7788"), "resyncRate": "100" + "Mi"})
    assert views.document(read) == {"bond": "bond1"} == views.document(views.PairReplication(bond="bond1"))
    assert views.document(views.view(views.NodeStatus, {"host": {}, "replication": {"role": "Unknown"}})) == {}


def test_an_enum_becomes_a_plain_string() -> None:
    status = views.ReplicationStatus(metadata=views.ReplicationMetadata.EMPTY)
    written = views.document(status)
    assert written == {"metadata": "Empty"}
    assert type(written["metadata"]) is str


def test_an_unreadable_document_names_the_field() -> None:
    sample = next(iter(yaml.safe_load_all(SAMPLES.read_text())))
    sample["spec"]["nodes"][0]["disk"] = 7
    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec\.nodes\[0\]\.disk"):
        views.view(views.StoragePair, sample)
