"""Documents of every kind that a user may write, made by hypothesis: valid ones, nearly valid ones, hostile ones.

A case says what is wrong with its document, so that the refusal can be asked for it. Which pairs there are is fixed
here (HOMES, BYSTANDER): the strategies name their machines, and the test makes them.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, replace
from typing import Any

from api.crd_cases import ACL, DOCUMENTS, LUN, MOVE, PAIR
from api.generated_values import INJECTED, METADATA, NUMBERS, RAW, STRUCTURES, TEXTS
from api.test_crds import changed
from api.test_validate import VALUES, places
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from storagepair_crds.schema import openapi_schema, path_text

Json = Any

NAME = "@NAME"
"""Stands for a name of the case's own."""


@dataclass(frozen=True)
class Home:
    """A pair that is there and serves, in a namespace."""

    namespace: str
    index: int

    @property
    def nodes(self) -> tuple[str, str]:
        return f"n{self.index}a", f"n{self.index}b"

    @property
    def address(self) -> str:
        return f"10.10.25.{self.index % 100 + 140}/24"

    @property
    def iqn(self) -> str:
        return f"iqn.2011-03.org.weithenn:vmstore.p{self.index}"


BYSTANDER = Home("bystander", 901)
HOMES = (Home("crowd-0", 910), Home("crowd-1", 911))
HOSTS = tuple(f"h{number}" for number in range(60))
VALID, NEAR, HOSTILE, FORBIDDEN = "valid", "nearly valid", "hostile", "without the right"


@dataclass(frozen=True)
class Case:
    """One document to be written, after `first` where that is a change of what is there."""

    group: str
    kind: str
    namespace: str
    about: str  # what is wrong with it, for people
    document: Json  # or a text, as YAML
    field: str = ""  # what is wrong with it: a path such as spec.nodes.0.disk; "" where nothing is
    first: Json = None
    user: str = "admin"
    strict: bool = True  # unknown fields are refused, as kubectl has it
    number: int = 0

    @property
    def name(self) -> str:
        return f"c{self.number}"

    def body(self, document: Json) -> str:
        """As it goes over the wire."""
        text = document if isinstance(document, str) else json.dumps(document)
        return text.replace(NAME, self.name)


# ------------------------------------------------------------------------------------------ valid


def _base(kind: str) -> Json:
    return changed(DOCUMENTS[kind], ("metadata", {"name": NAME}))


@st.composite
def pairs(draw: DrawFn, _: Home) -> Json:
    """A good StoragePair on machines of the pool; two that name one machine are each other's rivals."""
    document = _base(PAIR)
    spec = document["spec"]
    for node, host in zip(spec["nodes"], draw(st.permutations(HOSTS))[:2], strict=True):
        node["name"] = host
        node["disk"] = draw(st.sampled_from(["/dev/vdb", "/dev/disk/by-id/ata-WDC_WD10-1.2:3+4", "/dev/mapper/vg-x"]))
    keepalive = draw(st.integers(1, 60))
    spec["bonds"][0]["miimonMilliseconds"] = draw(st.integers(10, 10000))
    spec["replication"] |= {
        "port": draw(st.integers(1024, 65535).filter(lambda port: port != 3260)),
        "resyncRate": draw(st.sampled_from(["250Ki", "100Mi", "4Gi", "1000000", "256000"])),
    }
    spec["filesystem"] = {
        "type": draw(st.sampled_from(["ext3", "ext4", "xfs"])),
        "mountPath": draw(st.sampled_from(["/storage", "/srv/storage", "/a.b/c-d_e", "/" + "x" * 254])),
    }
    spec["heartbeat"] |= {
        "keepaliveSeconds": keepalive,
        "deadtimeSeconds": draw(st.integers(max(5, 3 * keepalive), 600)),
        "autoFailback": draw(st.sampled_from(["Disabled", "Enabled"])),
    }
    spec["virtualIP"]["address"] = f"10.10.25.{draw(st.integers(10, 99))}/24"
    spec["targets"] = [
        {"name": name, "iqn": f"iqn.2001-04.com.example:{name}-{draw(st.integers(0, 10**6))}"}
        for name in draw(st.lists(st.sampled_from(["default", "second", "t" * 63]), min_size=1, unique=True))
    ]
    spec["deletionPolicy"] = draw(st.sampled_from(["Retain", "Retain", "Teardown"]))
    spec["failoverHistoryLimit"] = draw(st.integers(1, 1000))
    return document


@st.composite
def luns(draw: DrawFn, _: Home) -> Json:
    """A good LUN of a pair that serves."""
    document = _base(LUN)
    pages = draw(st.integers(256, 2**31))
    document["spec"] |= {
        "size": draw(st.sampled_from(["1Mi", "64Mi", "9Gi", "4096k", f"{pages * 4096}", f"{pages * 4}Ki"])),
        "writePolicy": draw(st.sampled_from(["WriteThrough", "WriteBack"])),
        "deletionPolicy": draw(st.sampled_from(["Retain", "Delete"])),
    }
    if draw(st.booleans()):
        document["spec"]["number"] = draw(st.integers(1, 255))
    return document


@st.composite
def acls(draw: DrawFn, _: Home) -> Json:
    """A good InitiatorACL of a pair that serves; addresses may overlap."""
    parts = st.tuples(*(st.integers(1, 254) for _ in range(3)))
    forms = st.sampled_from(["{}.{}.{}.7", "{}.{}.{}.0/24", "{}.{}.0.0/16", "10.10.25.0/24", "128.0.0.0/1"])
    entries = st.builds(lambda form, numbers: form.format(*numbers), forms, parts)
    return changed(_base(ACL), ("spec.addresses", draw(st.lists(entries, min_size=1, max_size=64, unique=True))))


@st.composite
def moves(draw: DrawFn, home: Home) -> Json:
    """A good Switchover of a pair that serves."""
    spec = {"pairRef": {"name": "vmstore"}, "to": draw(st.sampled_from(home.nodes))}
    if draw(st.booleans()):
        spec["reason"] = draw(st.text(max_size=60))
    if draw(st.booleans()):
        spec["notAfter"] = draw(st.sampled_from(["2126-01-31T22:30:00Z", "2001-01-31T22:30:00.1+14:00"]))
    return changed(_base(MOVE), ("spec", spec))


KINDS = {PAIR: pairs, LUN: luns, ACL: acls, MOVE: moves}


@st.composite
def valid(draw: DrawFn) -> Case:
    home, kind = draw(st.sampled_from(HOMES)), draw(st.sampled_from([*KINDS, LUN]))
    document = draw(KINDS[kind](home))
    if draw(st.booleans()):
        document["metadata"]["annotations"] = draw(st.dictionaries(st.just("example.org/note"), st.text(max_size=300)))
    return Case(VALID, kind, home.namespace, "nothing", document)


# ------------------------------------------------------------------------------------------ nearly valid


@st.composite
def mutated(draw: DrawFn) -> Case:
    """One field has another value, another type, none, or is unknown."""
    case = draw(valid())
    field = draw(st.sampled_from(list(places(case.document["spec"]))[1:] or ["spec"]))
    value = draw(VALUES | _bounds(case.kind, field))
    return _with(case, NEAR, field, value)


@st.composite
def unknown(draw: DrawFn) -> Case:
    case = draw(valid())
    inside = [place for place in places(case.document["spec"]) if isinstance(_at(case.document, place), dict)]
    return _with(case, NEAR, f"{draw(st.sampled_from(inside))}.xyzzy", draw(VALUES.filter(lambda value: value != ...)))


def _rivals(home: Home) -> SearchStrategy[tuple[str, Json]]:
    """What another pair has already, and what nobody has."""
    return st.sampled_from(
        [
            ("spec.nodes.0.name", home.nodes[0]),
            ("spec.nodes.1.name", home.nodes[1]),
            ("spec.virtualIP.address", home.address),
            ("spec.targets.0.iqn", home.iqn),
            ("spec.pairRef.name", "nobody"),
            ("spec.target", "nobody"),
            ("spec.number", 1),
            ("spec.to", "nobody"),
            ("spec.to", BYSTANDER.nodes[0]),
            ("metadata.name", {PAIR: "vmstore", LUN: "datastore1", ACL: "esx", MOVE: "vmstore"}),
            ("spec.addresses", ["10.10.25.0/24", "10.10.25.0/25", "10.10.25.131"]),
        ]
    )


@st.composite
def rivals(draw: DrawFn) -> Case:
    """What contradicts another object: that one wins, and is named."""
    field, value = draw(_rivals(draw(st.sampled_from([*HOMES, BYSTANDER]))))
    case = draw(valid().filter(lambda case: field.startswith("metadata") or _has(case, field)))
    value = value[case.kind] if isinstance(value, dict) else value
    # a pair beside the bystander's, in its own namespace, is no business of its hosts either
    home = draw(st.sampled_from([case.namespace, BYSTANDER.namespace])) if case.kind == PAIR else case.namespace
    return replace(_with(case, NEAR, field, value), namespace=home)


def _has(case: Case, field: str) -> bool:
    head = field.split(".")[1]
    return head in case.document["spec"] or (case.kind in (LUN, ACL) and head in ("number", "target"))


def _bounds(kind: str, field: str) -> SearchStrategy[Json]:
    """The schema's own limits of a field, and one beyond each."""
    schema = _schema_at(kind, field)
    found: list[Json] = [None, ...]
    for limit in ("minimum", "maximum"):
        if limit in schema:
            found += [schema[limit] + step for step in (-1, 0, 1)]
    if "maxLength" in schema:
        found += ["a" * schema["maxLength"], "a" * (schema["maxLength"] + 1)]
    if "maxItems" in schema:
        found += [[{}] * (schema["maxItems"] + 1), ["a"] * (schema["maxItems"] + 1)]
    return st.sampled_from([*found, *schema.get("enum", [])])


def _schema_at(kind: str, field: str) -> Json:
    schema: Json = openapi_schema(kind)
    for part in field.split("."):
        schema = schema.get("items", {}) if part.isdigit() else schema.get("properties", {}).get(part, {})
    return schema


# ------------------------------------------------------------------------------------------ hostile


@st.composite
def poisoned(draw: DrawFn) -> Case:
    """A text that would be a line, a command, a path or a megabyte where it goes."""
    case = draw(valid())
    inside = [place for place in places(case.document["spec"]) if isinstance(_at(case.document, place), str)]
    field = draw(st.sampled_from(inside))
    good = _at(case.document, field)
    added = st.builds(lambda form, text: form.format(good, text), st.sampled_from(["{}{}", "{1}{0}"]), INJECTED)
    return _with(case, HOSTILE, field, draw(TEXTS | added))


@st.composite
def monstrous(draw: DrawFn) -> Case:
    """A huge number, a deep or wide structure, anywhere."""
    case = draw(valid())
    field = draw(st.sampled_from(list(places(case.document["spec"]))))
    return _with(case, HOSTILE, field, draw(NUMBERS | STRUCTURES))


@st.composite
def adorned(draw: DrawFn) -> Case:
    """Metadata as no tool would write them."""
    case = draw(valid())
    field, value = draw(METADATA)
    return replace(_with(case, HOSTILE, field, value), strict=draw(st.booleans()))


@st.composite
def raw(draw: DrawFn) -> Case:
    """YAML that reads otherwise than it looks, or not at all."""
    home, (kind, text) = draw(st.sampled_from(HOMES)), draw(st.sampled_from(RAW))
    return Case(HOSTILE, kind, home.namespace, "YAML", text)


@st.composite
def updates(draw: DrawFn) -> Case:
    """A good document becomes a bad one."""
    return draw(st.one_of(mutated(), poisoned(), monstrous(), unknown()))


@st.composite
def forbidden(draw: DrawFn) -> Case:
    """By a user who may write what users write, and may use no machine."""
    home = draw(st.sampled_from([*HOMES, BYSTANDER]))
    kind = draw(st.sampled_from(["StorageNode", "Failover", PAIR]))
    if kind == PAIR:
        document = changed(draw(pairs(home)), ("spec.nodes.1.name", draw(st.sampled_from([*HOSTS, *home.nodes]))))
        return Case(FORBIDDEN, kind, home.namespace, "no right to use", document, "spec.nodes", user="plain")
    name = draw(st.sampled_from(home.nodes)) if kind == "StorageNode" else NAME
    document = changed(DOCUMENTS[kind], ("metadata", {"name": name}))
    return Case(FORBIDDEN, kind, home.namespace, "written by a user", document, user="plain")


def _with(case: Case, group: str, field: str, value: Json) -> Case:
    """The case with another value somewhere; as it is where that place is gone."""
    try:
        document = changed(case.document, (field, value))
    except (LookupError, TypeError, ValueError):
        return case
    shown = repr(value)
    about = f"{path_text(_parts(field))} = {shown if len(shown) < 60 else shown[:60] + '...'}"
    return replace(case, group=group, about=about, field=field, document=document, first=case.document)


def _parts(field: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in field.split(".")]


def _at(document: Json, field: str) -> Json:
    for part in _parts(field):
        document = document[part]
    return copy.deepcopy(document)


def _created(case: Case) -> Case:
    return replace(case, first=None)


def _weighted(*strategies: tuple[SearchStrategy[Case], int]) -> SearchStrategy[Case]:
    return st.one_of(*(strategy for strategy, weight in strategies for _ in range(weight)))


SHARES = {
    VALID: (valid(), 0.3),
    NEAR: (_weighted((mutated().map(_created), 5), (rivals().map(_created), 3), (unknown().map(_created), 1)), 0.25),
    HOSTILE: (
        _weighted(
            *((make().map(_created), weight) for make, weight in ((poisoned, 5), (monstrous, 2), (adorned, 3))),
            (raw(), 1),
        ),
        0.25,
    ),
    "a change": (updates(), 0.15),
    FORBIDDEN: (forbidden(), 0.05),
}


def generate(count: int) -> list[Case]:
    """So many different cases, the same ones every time, all groups mixed."""
    found = [case for strategy, share in SHARES.values() for case in _some(strategy, round(count * share))]
    random.Random(0).shuffle(found)
    return [replace(case, number=number) for number, case in enumerate(found)]


def _some(strategy: SearchStrategy[Case], count: int) -> list[Case]:
    found: dict[str, Case] = {}

    @settings(
        max_examples=3 * count // 2,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(case: Case) -> None:
        if len(found) < count:
            found.setdefault(repr(case), case)

    collect()
    return list(found.values())
