"""Files as documents: what kubectl would make of them, and where each field is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_cli.model import Document
from storagepair_cli.source import Unreadable, parse, read

HEAD = "apiVersion: storagepair.dev/v1alpha1\nkind: LUN\n"


def one(text: str) -> Document:
    (document,) = parse((HEAD + text).encode(), "f.yaml")
    return document


def test_every_field_knows_its_place() -> None:
    document = one("metadata: {name: a}\nspec:\n  list:\n    - x: 1\n    -   b: 2\n")
    places = {path: (place.line, place.column) for path, place in document.positions.items()}
    assert places[""] == (1, 1)
    assert places["metadata.name"] == (3, 12)
    assert places["spec.list"] == (5, 3)
    assert places["spec.list[1]"] == (7, 9)
    assert places["spec.list[1].b"] == (7, 9)


def test_a_field_that_is_not_there_is_where_it_would_be() -> None:
    document = one("spec:\n  list:\n    - x: 1\n")
    assert document.position("spec.list[0].missing.below") == document.positions["spec.list[0]"]
    assert document.position("spec.other") == document.positions["spec"]
    assert document.position("nothing") == document.positions[""]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-31T12:34:56Z", "2026-01-31T12:34:56Z"),
        ("y", True),
        ("No", False),
        ("on", True),
        ("'yes'", "yes"),
        ("7", 7),
        ("1.5", 1.5),
        ("~", None),
        ("=", "="),
        ("{<<: {a: 1, b: 2}, b: 3}", {"a": 1, "b": 3}),
        ("{<<: [{a: 1}, {a: 2, b: 2}]}", {"a": 1, "b": 2}),
        ("{b: 3, <<: {b: 2}}", {"b": 3}),
    ],
)
def test_scalars_and_merges_are_what_kubectl_takes_them_for(text: str, value: Any) -> None:
    assert one(f"spec: {text}").value["spec"] == value


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("spec: [", 3, "not YAML: "),
        ("spec: {a: 1,\n  a: 2}", 4, "spec.a is there twice"),
        ("kind: LUN", 3, "kind is there twice"),
        ("spec: {1: 2}", 3, "must be a text"),
        ("spec: {? [a] : 2}", 3, "must be a text"),
        ("spec: !vault x", 3, "could not determine a constructor"),
        ("spec: &a [*a]", 3, "an alias of what it is a part of"),
        ("spec: {<<: 7}", 3, "only a mapping can be merged"),
        ("spec: *nowhere", 3, "undefined alias"),
    ],
)
def test_what_is_no_yaml_of_ours_says_where(text: str, line: int, message: str) -> None:
    with pytest.raises(Unreadable, match=message) as refused:
        one(text)
    assert refused.value.position.line == line


@pytest.mark.parametrize("text", ["[]", "x", "{kind: LUN}", "{apiVersion: v1, kind: 7}"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="not a Kubernetes object"):
        parse(text.encode(), "f")


def test_a_few_lines_that_stand_for_billions_end_soon() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12))
    with pytest.raises(Unreadable, match="aliases spelled out") as refused:
        one(f"l0: &l0 x\n{levels}")
    assert refused.value.position.line == HEAD.count("\n") + 1 + 6  # ten to the sixth, and what holds them


def test_many_documents_that_are_each_small_enough_end_too() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 5))
    with pytest.raises(Unreadable, match="aliases spelled out"):
        parse(f"---\n{HEAD}l0: &l0 x\n{levels}\n".encode() * 200, "f")


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(Unreadable, match="nested too deeply"):
        one("spec: " + "[" * 5000 + "]" * 5000)


def test_documents_lists_and_nothing() -> None:
    several = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  spec: 1\n"
    text = f"---\n{HEAD}---\n# empty\n---\n{several}"
    first, second = parse(text.encode(), "f")
    assert (first.kind, first.position("").line) == ("LUN", 2)
    assert (second.kind, second.position("spec").line) == ("Secret", 12)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_file_crashes_the_reader(data: bytes) -> None:
    try:
        parse(data, "f")
    except Unreadable as error:
        assert str(error)
        assert error.position.line >= 1


# what JSON leaves as it is and YAML takes as it is
TEXT = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from("\n\t"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    whole = {"apiVersion": "v1", "kind": "X", "spec": value}
    (document,) = parse(json.dumps(whole, ensure_ascii=False, indent=1).encode(), "f")
    assert document.value == whole


def test_folders_are_read_to_their_depths(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("z.yaml", "a/y.yml", "a/b/x.json", "a/readme.md"):
        (tmp_path / name).write_text('{"apiVersion": "v1", "kind": "X"}')
    source = read([str(tmp_path)])
    assert source.files == 3
    assert not source.problems
    found = [Path(document.position("").file).relative_to(tmp_path).as_posix() for document in source.documents]
    assert found == ["a/b/x.json", "a/y.yml", "z.yaml"]


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "good.yaml").write_text(HEAD)
    (tmp_path / "empty").mkdir()
    missing = str(tmp_path / "missing.yaml")
    source = read([str(tmp_path / "bad.yaml"), missing, str(tmp_path / "empty"), str(tmp_path / "good.yaml")])
    assert [document.kind for document in source.documents] == ["LUN"]
    assert [problem.position.file for problem in source.problems] == [
        str(tmp_path / "bad.yaml"),
        missing,
        str(tmp_path / "empty"),
    ]
