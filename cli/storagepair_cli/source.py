"""Files, folders and standard input as documents whose every field knows its line.

YAML is read as kubectl reads it: a time stays a text, `y` is a boolean, a key that is there twice is an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from storagepair_crds.schema import path_text

from storagepair_cli.model import UNREADABLE, Document, Finding, Json, Object, Position, Severity

STDIN = "-"
_SUFFIXES = (".yaml", ".yml", ".json")

_LIMIT = 1_000_000
"""How many values a file may have with its aliases spelled out: a few lines of YAML can stand for billions."""

_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_OURS = ("bool", "timestamp", "value")
_PREFIX = "tag:yaml.org,2002:"

Path_ = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """Scalars as Kubernetes' YAML reader (go.yaml.in/yaml/v2) takes them."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_PREFIX) not in _OURS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _boolean(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return loader.construct_scalar(node) in _TRUE


_Loader.add_implicit_resolver(f"{_PREFIX}bool", re.compile(f"^(?:{'|'.join(_TRUE + _FALSE)})$"), list("yYnNtTfFoO"))
_Loader.add_constructor(f"{_PREFIX}bool", _boolean)


class Unreadable(Exception):
    """Something in a file can't be read; the position is where."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True, slots=True)
class Source:
    """What was read. `problems` are the findings about what could not be."""

    documents: tuple[Document, ...]
    problems: tuple[Finding, ...]
    files: int


def read(arguments: Iterable[str]) -> Source:
    """All documents of files, folders (their *.yaml, *.yml and *.json, at any depth) and standard input (`-`)."""
    documents: list[Document] = []
    problems: list[Finding] = []
    files = 0
    for argument in arguments:
        try:
            for name, data in _texts(argument):
                files += 1
                try:
                    documents.extend(parse(data, name))
                except Unreadable as error:
                    problems.append(_problem(error.position, str(error)))
        except OSError as error:
            problems.append(_problem(Position(error.filename or argument), error.strerror or str(error)))
    return Source(tuple(documents), tuple(problems), files)


def _problem(position: Position, message: str) -> Finding:
    return Finding(Severity.ERROR, UNREADABLE, position, Object(), "", message)


def _texts(argument: str) -> Iterator[tuple[str, bytes]]:
    if argument == STDIN:
        yield "<stdin>", sys.stdin.buffer.read()
        return
    path = Path(argument)
    if not path.is_dir():
        yield argument, path.read_bytes()
        return
    found = sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES and each.is_file())
    if not found:
        raise FileNotFoundError(2, f"the folder holds no {', '.join(_SUFFIXES)} file", argument)
    for each in found:
        yield str(each), each.read_bytes()


def parse(data: bytes, name: str) -> list[Document]:
    """The documents of one file; a `List` (as `kubectl get --output=yaml` prints) is what it holds.

    Raises `Unreadable` for the first thing that is no YAML of a Kubernetes object.
    """
    reader: _Reader | None = None
    try:
        loader = _Loader(data)
        reader = _Reader(loader, name)
        nodes: list[yaml.Node] = []
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                nodes.append(node)
        reader.weigh(nodes)
        documents = [document for node in nodes for document in reader.objects(node)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = Position(name, mark.line + 1, mark.column + 1) if mark else Position(name)
        raise Unreadable(position, f"not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise Unreadable(Position(name), f"not YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:  # a scalar that looks like a number and is none
        where = reader.here if reader else Position(name)
        raise Unreadable(where, f"not YAML: {error}") from error
    except RecursionError as error:
        raise Unreadable(Position(name), "nested too deeply") from error
    return documents


class _Reader:
    """Turns the nodes of one file into documents."""

    def __init__(self, loader: _Loader, name: str) -> None:
        self._loader = loader
        self._name = name
        self._above: set[int] = set()
        self._positions: dict[str, Position] = {}
        self.here = Position(name)

    def weigh(self, nodes: Iterable[yaml.Node]) -> None:
        """Refuse a file that stands for too many values before any of them is made."""
        known: dict[int, int] = {}
        total = 0
        for node in nodes:
            total += self._weight(node, known)
            if total > _LIMIT:
                raise self._too_much(node)

    def objects(self, node: yaml.Node) -> Iterator[Document]:
        self._positions = {"": self._position(node)}
        value = self._value(node, ())
        if value is None:
            return
        where = self._positions[""]
        if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("apiVersion", "kind")):
            raise Unreadable(where, "not a Kubernetes object: a mapping with apiVersion and kind is expected")
        items = value.get("items")
        if not value["kind"].endswith("List") or not isinstance(items, list):
            yield Document(value, self._positions)
            return
        for item, positions in zip(items, _of_items(self._positions, len(items)), strict=True):
            if not isinstance(item, dict):
                raise Unreadable(positions[""], "not a Kubernetes object")
            yield Document(item, positions)

    def _position(self, node: yaml.Node) -> Position:
        return Position(self._name, node.start_mark.line + 1, node.start_mark.column + 1)

    def _weight(self, node: yaml.Node, known: dict[int, int]) -> int:
        """How many values a node stands for; each is looked at once, however many aliases it has."""
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = 0  # for an alias of what it is a part of, which `_value` refuses
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [each for pair in parts for each in pair]
        weight = 1 + sum(self._weight(each, known) for each in parts)
        if weight > _LIMIT:  # told where it is the smallest part that is too much
            raise self._too_much(node)
        known[id(node)] = weight
        return weight

    def _too_much(self, node: yaml.Node) -> Unreadable:
        return Unreadable(self._position(node), f"more than {_LIMIT} values, its aliases spelled out")

    def _value(self, node: yaml.Node, path: Path_) -> Json:
        self.here = self._position(node)
        if isinstance(node, yaml.ScalarNode):
            return self._loader.construct_object(node)
        if id(node) in self._above:
            raise Unreadable(self.here, "an alias of what it is a part of")
        self._above.add(id(node))
        value = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._list(node, path)
        self._above.discard(id(node))
        return value

    def _list(self, node: yaml.Node, path: Path_) -> list[Json]:
        result = []
        for index, entry in enumerate(node.value):
            self._positions[path_text((*path, index))] = self._position(entry)
            result.append(self._value(entry, (*path, index)))
        return result

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Json]:
        result: dict[str, Json] = {}
        merged: dict[str, Json] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_PREFIX}merge":
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in parts:
                    value = self._value(part, path)
                    if not isinstance(value, dict):
                        raise Unreadable(self._position(part), "only a mapping can be merged")
                    merged = value | merged  # the first of several wins
                continue
            key = self._key(key_node)
            if key in result:
                raise Unreadable(self._position(key_node), f"{path_text((*path, key))} is there twice")
            self._positions[path_text((*path, key))] = self._position(key_node)
            result[key] = self._value(value_node, (*path, key))
        return merged | result

    def _key(self, node: yaml.Node) -> str:
        key: Any = self._value(node, ()) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise Unreadable(self._position(node), "the key of a mapping must be a text; put it into quotes")
        return key


def _of_items(positions: Mapping[str, Position], number: int) -> list[dict[str, Position]]:
    """The positions of each item of a List, by the item's own paths."""
    found: list[dict[str, Position]] = [{} for _ in range(number)]
    for path, place in positions.items():
        head, _, rest = path.partition("]")
        if head.startswith("items["):
            found[int(head.removeprefix("items["))][rest.removeprefix(".")] = place
    return found
