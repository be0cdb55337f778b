"""A LUN's identity as initiators see it: minted once, kept beside its file, adopted from there for ever. Pure.

Initiators know a disk by its SCSI identity, not by its address: one that changes is another disk, and two LUNs with
the same one are the same disk, with the loss of data that goes with it.
"""

from __future__ import annotations

import hashlib
import json
import re

import msgspec

from storagepair_node_agent.snapshot import LunFacts, StoredLun

VENDOR = "STORPAIR"  # SCSI's T10 vendor field has eight bytes

# NAA type 6 (IEEE registered extended): 24 bits of a company id, then what the company likes. We have no company id of
# our own, so we take one with the locally administered bit, which no company can be given.
_NAA = "6" + "025350"
_SOUND = {  # what may go into the table and onto tgtadm's argument list: one word without a comma, of SCSI's length
    "scsi_id": re.compile(r"6[0-9a-f]{31}"),
    "serial": re.compile(r"[0-9A-Za-z-]{1,36}"),
    "vendor_id": re.compile(r"[0-9A-Za-z._-]{1,8}"),
    "product_id": re.compile(r"[0-9A-Za-z._-]{1,16}"),
    "target": re.compile(r"[0-9a-z-]{1,63}"),
}
_TIDS = 2**27  # tgtd makes one more identifier (NAA 3) of the target's and the LUN's number: 28 bits are the target's


class Identity(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The file luns/NAME/identity.json. It holds no size and no policy: those may change."""

    version: int = 1
    pair: str
    lun: str
    target: str
    number: int
    scsi_id: str
    serial: str
    vendor_id: str
    product_id: str


def mint(entropy: str, pair: str, lun: str, target: str, number: int) -> Identity:
    """A new identity. Random, not derived from names: a LUN that is deleted and made again is another disk."""
    digest = hashlib.sha256("\n".join((entropy, pair, lun)).encode()).hexdigest()
    serial = digest[:20]
    return Identity(
        pair=pair,
        lun=lun,
        target=target,
        number=number,
        scsi_id=_NAA + digest[:25],
        serial=serial,
        vendor_id=VENDOR,
        product_id=f"{serial[:8]}-lun{number}",  # ESXi tells LUNs apart by the first 8 of its 16 bytes
    )


def document(identity: Identity) -> str:
    return json.dumps(msgspec.to_builtins(identity), indent=2) + "\n"


def stored(name: str, text: str | None, file_bytes: int | None) -> StoredLun:
    """What a LUN's folder says; without a readable identity of that name only that it is there."""
    try:
        found = msgspec.json.decode(text or "", type=Identity)
    except msgspec.DecodeError:
        return StoredLun(name, file_bytes=file_bytes)
    sound = all(pattern.fullmatch(getattr(found, field)) for field, pattern in _SOUND.items())
    if found.lun != name or not sound or not 1 <= found.number <= 255:
        return StoredLun(name, file_bytes=file_bytes)
    return StoredLun(
        name=name,
        pair=found.pair,
        target=found.target,
        number=found.number,
        serial=found.serial,
        scsi_id=found.scsi_id,
        vendor_id=found.vendor_id,
        product_id=found.product_id,
        file_bytes=file_bytes,
    )


def adopted(found: StoredLun, size_bytes: int, path: str, write_policy: str) -> LunFacts:
    """The table's line for a LUN whose identity was found."""
    return LunFacts(
        name=found.name,
        target=found.target,
        number=found.number,
        serial=found.serial,
        scsi_id=found.scsi_id,
        size_bytes=size_bytes,
        path=path,
        write_policy=write_policy,
        file_bytes=found.file_bytes,
        vendor_id=found.vendor_id,
        product_id=found.product_id,
    )


def target_number(pair: str, iqn: str, taken: frozenset[int]) -> int:
    """A target's number in tgtd, the same on both nodes and unlikely to be another pair's: never a small one, as
    tgt-admin gives to targets of its own configuration."""
    digest = hashlib.sha256(f"{pair}\n{iqn}".encode()).digest()
    number = 1000 + int.from_bytes(digest[:8], "big") % (_TIDS - 2000)
    while number in taken:
        number += 1
    return number
