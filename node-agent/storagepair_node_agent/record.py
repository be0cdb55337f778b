"""The host record: which pair this host was set up for, on which disk, and how far its file system came.

It stays when the pair is torn down: with it the disk is still known as the pair's own, and one of the same name that
comes later adopts the data.

It is what makes DRBD metadata on a disk *ours*, and a host refuse another pair's document. It is written before the
change that it stands for (so a crash leaves a record without its change, never a change without its record), and
holds no secret.
"""

from __future__ import annotations

import json

import msgspec

from storagepair_node_agent.actions import WriteFile
from storagepair_node_agent.host import Host
from storagepair_node_agent.snapshot import HostSnapshot

PATH = "/var/lib/storagepair/host.json"


class RecordError(Exception):
    """The host record is there and can't be read; nothing may be decided without it."""


class HostRecord(msgspec.Struct, frozen=True):
    """`pair` is "namespace/name", `uid` that of the StoragePair whose document was carried out last. `formatting`: the
    replicated device was found without any signature and the file system is being made; `formatted`: it was made, with
    its folders."""

    pair: str = ""
    disk: str = ""
    formatting: bool = False
    formatted: bool = False
    uid: str = ""


def read(host: Host) -> HostRecord | None:
    """The host's record, None if it has none. Raises RecordError for one that is damaged."""
    text = host.read(PATH)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=HostRecord)
    except msgspec.DecodeError as error:
        raise RecordError(f"{PATH} is damaged: {error}") from error


def known(snapshot: HostSnapshot) -> HostRecord | None:
    """The record as the snapshot saw it; None when a part of it could not be seen."""
    if snapshot.preflight is None or snapshot.filesystem is None:
        return None
    return HostRecord(
        pair=snapshot.preflight.recorded_pair or "",
        disk=snapshot.preflight.recorded_disk or "",
        formatting=snapshot.filesystem.formatting_record,
        formatted=snapshot.filesystem.formatted_record,
        uid=snapshot.preflight.recorded_uid or "",
    )


def written(record: HostRecord) -> WriteFile:
    """The step that writes the record."""
    return WriteFile(PATH, json.dumps(msgspec.to_builtins(record), indent=2) + "\n", 0o600)
