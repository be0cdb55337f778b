"""Which pairs and machines have to do with each other, kept up with every change.

Whether a pair gets what it claims depends on who else claims it, and so on. In a healthy cluster that is nobody, so
that a change costs the same however many pairs there are.
"""

from __future__ import annotations

from collections.abc import Iterable

from storagepair_crds.views import StorageNode, StoragePair, Struct

from storagepair_operator.kinds import PairKey
from storagepair_operator.plan.claims import Claim, holds, wants


class ClaimIndex:
    """The claims of all pairs and of all hosts' documents, by object (UID), by pair and by claim."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[PairKey, frozenset[Claim]]] = {}
        self._by_claim: dict[Claim, set[str]] = {}
        self._by_pair: dict[PairKey, set[str]] = {}
        self._nodes: set[str] = set()  # which of them are StorageNodes

    def add(self, uid: str, keys: tuple[PairKey, ...], value: Struct | None) -> None:
        """Take an object; only pairs and StorageNodes claim anything."""
        if isinstance(value, StoragePair):
            claims = frozenset(wants(value))
        elif isinstance(value, StorageNode):
            claims = frozenset(holds(value))
            self._nodes.add(uid)
        else:
            return
        (key,) = keys
        self._of[uid] = (key, claims)
        self._by_pair.setdefault(key, set()).add(uid)
        for claim in claims:
            self._by_claim.setdefault(claim, set()).add(uid)

    def remove(self, uid: str) -> None:
        """Forget an object."""
        self._nodes.discard(uid)
        key, claims = self._of.pop(uid, (None, frozenset[Claim]()))
        if key is None:
            return
        _discard(self._by_pair, key, uid)
        for claim in claims:
            _discard(self._by_claim, claim, uid)

    def rivals(self, key: PairKey) -> set[PairKey]:
        """The pair and all others that claim or hold what it claims or holds, and what those do, to the end."""
        found, ahead = {key}, [key]
        while ahead:
            near = {self._of[uid][0] for claim in self._claims((ahead.pop(),)) for uid in self._by_claim[claim]}
            ahead += near - found
            found |= near
        return found

    def nodes(self, keys: Iterable[PairKey]) -> set[str]:
        """The UIDs of the StorageNodes that belong to these pairs or are claimed by them."""
        return {uid for claim in self._claims(keys) for uid in self._by_claim[claim] if uid in self._nodes}

    def _claims(self, keys: Iterable[PairKey]) -> set[Claim]:
        return {claim for key in keys for uid in self._by_pair.get(key, ()) for claim in self._of[uid][1]}


def _discard(index: dict[PairKey, set[str]] | dict[Claim, set[str]], key: PairKey | Claim, uid: str) -> None:
    members = index[key]  # type: ignore[index]
    members.discard(uid)
    if not members:
        del index[key]  # type: ignore[arg-type]
