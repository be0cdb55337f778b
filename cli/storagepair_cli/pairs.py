"""What objects say of each other, by the operator's own rules: plan() on a snapshot made of the files.

A machine in two pairs, a floating address or IQN used twice, a LUN's number taken, a pair or target that is not there.
Among objects that no cluster has yet the earlier one in the files is taken for the older.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from storagepair_crds.schema import apply_defaults
from storagepair_crds.views import LUN, InitiatorACL, StorageNode, StoragePair, Struct, view
from storagepair_operator import reasons
from storagepair_operator.kinds import ACLS, LUNS, NODES, PAIRS, PairKey
from storagepair_operator.plan import Plan, Verdict, plan
from storagepair_operator.snapshot import Observed, Snapshot, by_age

from storagepair_cli.model import Document, Finding, Object, Severity

_JUDGED = {kind.name: kind for kind in (PAIRS, LUNS, ACLS, NODES)}
_SECRETS_NAMESPACE = "storagepair-system"  # plan() wants one; no verdict depends on it
_NOW = datetime.fromtimestamp(
    0, UTC
)  # likewise: only a Switchover is judged by the time, and none is in a snapshot here
_FIELD = re.compile(r"(spec(?:\.[A-Za-z]+)+)(?:: | )(.*)", re.DOTALL)

Kind = TypeVar("Kind", bound=Struct)
Named = tuple[Object, Document]


class Family:
    """All objects of the files that were read, by what they are. `invalid` ones only count as being there."""

    def __init__(self, good: Sequence[Named], invalid: Sequence[Object]) -> None:
        self.documents = dict(good)
        views = [_view(*named, order) for order, named in enumerate(good) if named[0].kind in _JUDGED]
        self._luns = [each for each in views if isinstance(each, LUN)]
        self._acls = [each for each in views if isinstance(each, InitiatorACL)]
        self._nodes = {n.metadata.name: Observed(n) for n in views if isinstance(n, StorageNode)}
        self._pairs: dict[PairKey, StoragePair | None] = {
            PairKey(about.namespace, about.name): None for about in invalid if about.kind == PAIRS.name
        }
        self._pairs |= {_key(pair): pair for pair in views if isinstance(pair, StoragePair)}

    def snapshots(self) -> Iterator[Snapshot]:
        """What concerns each pair that is there or that somebody names."""
        named = [*map(_parent, self._luns), *map(_parent, self._acls)]
        keys = dict.fromkeys([*self._pairs, *named])
        for key in keys:
            yield Snapshot(
                key=key,
                pair=self._pairs.get(key),
                luns=tuple(by_age(lun for lun in self._luns if _parent(lun) == key)),
                acls=tuple(by_age(acl for acl in self._acls if _parent(acl) == key)),
                nodes=self._nodes,
                pairs=self._pairs,
            )


def disagreements(good: Sequence[Named], invalid: Sequence[Object], *, partial: bool) -> Iterator[Finding]:
    """What the operator would refuse in documents that are good each for itself.

    With `partial` the files are only a part of what the cluster has: a pair that is missing in them is a note.
    """
    family = Family(good, invalid)
    for snapshot in family.snapshots():
        if snapshot.pair is None and snapshot.key in snapshot.pairs:
            yield from _unjudged(snapshot, family)
            continue
        planned = plan(snapshot, {}, _SECRETS_NAMESPACE, _NOW)
        for about, verdict in _refusals(snapshot, planned):
            yield _finding(about, verdict, family.documents[about], partial=partial)


def _refusals(snapshot: Snapshot, planned: Plan) -> Iterator[tuple[Object, Verdict]]:
    key = snapshot.key
    if planned.pair is not None:
        yield from _refused(Object(PAIRS.name, *key), planned.pair)
    for kind, verdicts in ((LUNS, planned.luns), (ACLS, planned.acls)):
        for name, verdict in verdicts.items():
            yield from _refused(Object(kind.name, key.namespace, name), verdict)


def _refused(about: Object, verdict: Verdict) -> Iterator[tuple[Object, Verdict]]:
    # what is wrong with the pair is said once, at the pair
    if not verdict.accepted and verdict.reason != reasons.PAIR_NOT_ACCEPTED:
        yield about, verdict


def _finding(about: Object, verdict: Verdict, document: Document, *, partial: bool) -> Finding:
    match = _FIELD.fullmatch(verdict.message)
    field, message = (match[1], match[2]) if match else ("", verdict.message)
    field = _entry(document, field, message)
    severity = Severity.ERROR
    if partial and verdict.reason == reasons.PAIR_NOT_FOUND:
        severity, message = Severity.NOTE, f"not checked offline: {message} in these files"
    return Finding(severity, f"pairs/{verdict.reason}", document.position(field), about, field, message)


def _entry(document: Document, field: str, message: str) -> str:
    """The one entry of a list that a message is about: the field below whose value it names."""
    words = set(re.split(r"[\s;,]+", message))
    for path in document.positions:
        value: Any = document.value
        if not path.startswith(f"{field}["):
            continue
        for part in re.findall(r"[^.\[\]]+", path):
            value = value[int(part)] if isinstance(value, list) else value[part]
        if isinstance(value, str) and value in words:
            return path
    return field


def _unjudged(snapshot: Snapshot, family: Family) -> Iterator[Finding]:
    for thing in snapshot.things:
        about = Object(type(thing).__name__, *_name(thing))
        document = family.documents[about]
        message = f"not checked against StoragePair {snapshot.key}, which is invalid itself"
        yield Finding(
            Severity.NOTE, "pairs/NotChecked", document.position("spec.pairRef"), about, "spec.pairRef", message
        )


def _view(about: Object, document: Document, order: int) -> Struct:
    """The typed view of a good document: of a user's kind only what users write."""
    whole = apply_defaults(document.value)
    given = whole["metadata"].get("creationTimestamp")
    metadata = {
        "name": about.name,
        "namespace": about.namespace,
        # what a cluster has is older than what it has not: a time sorts before a tilde
        "creationTimestamp": given if isinstance(given, str) else f"~{order:09}",
    }
    status = whole.get("status", {}) if about.kind == NODES.name else {}
    return view(_JUDGED[about.kind].view, {"metadata": metadata, "spec": whole["spec"], "status": status})


def _name(thing: LUN | InitiatorACL | StoragePair) -> tuple[str, str]:
    return thing.metadata.namespace, thing.metadata.name


def _key(pair: StoragePair) -> PairKey:
    return PairKey(*_name(pair))


def _parent(thing: LUN | InitiatorACL) -> PairKey:
    return PairKey(thing.metadata.namespace, thing.spec.pair_ref.name)
