"""The export table: what the service serves, on the replicated file system, read by the resource script. Pure.

Single-blank separated lines, the LUNs of a target before its ACLs (hostfiles/targets.sh says the same):
    target NAME TID IQN
    lun NAME TID NUMBER FLAGS SCSI_ID SERIAL VENDOR PRODUCT PATH SIZE
    acl NAME TID ADDRESS
    end
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from storagepair_node_agent.snapshot import ExportedTarget, LunFacts

FOLDER = ".storagepair"
TABLE = f"{FOLDER}/exports"  # below the mount
_FLAGS = {"WriteThrough": "sync", "WriteBack": "-"}
_POLICIES = {flags: policy for policy, flags in _FLAGS.items()}


class TableDamaged(ValueError):
    """The export table has a line that is none of ours, or lacks its end: nothing may be decided on it."""


@dataclass(frozen=True)
class Table:
    targets: tuple[ExportedTarget, ...] = ()
    luns: tuple[LunFacts, ...] = ()

    def target(self, name: str) -> ExportedTarget | None:
        return next((target for target in self.targets if target.name == name), None)

    def lun(self, name: str) -> LunFacts | None:
        return next((lun for lun in self.luns if lun.name == name), None)


def flags(lun: LunFacts) -> str:
    """tgtd's backing store flags for a LUN, "-" for none. `sync`: a write is acknowledged when it is on both disks."""
    return _FLAGS[lun.write_policy]


def image(lun: str) -> str:
    """A LUN's backing file, below the mount."""
    return f"luns/{lun}/disk.img"


def render(table: Table) -> str:
    lines = []
    tids = {target.name: target.tid for target in table.targets}
    for target in table.targets:
        lines.append(f"target {target.name} {target.tid} {target.iqn}")
    for lun in table.luns:
        identity = f"{lun.scsi_id} {lun.serial} {lun.vendor_id} {lun.product_id}"
        where = f"{image(lun.name)} {lun.size_bytes}"
        lines.append(f"lun {lun.name} {tids[lun.target]} {lun.number} {flags(lun)} {identity} {where}")
    for target in table.targets:
        for acl, addresses in sorted(target.initiators.items()):
            lines += [f"acl {acl} {target.tid} {address}" for address in addresses]
    return "\n".join([*lines, "end"]) + "\n"


def parse(text: str, mount: str) -> Table:
    """The table of a file. LunFacts.path is absolute; `file_bytes` is not known here. Raises TableDamaged."""
    lines = text.splitlines()
    if not lines or lines[-1] != "end":
        raise TableDamaged("its last line is missing")
    try:
        return _parsed([line.split(" ") for line in lines[:-1]], mount)
    except (ValueError, KeyError, IndexError) as error:
        raise TableDamaged(f"a line is not understood: {error}") from error


def _parsed(rows: Iterable[list[str]], mount: str) -> Table:
    targets: dict[int, tuple[str, str, dict[str, tuple[str, ...]]]] = {}
    luns = []
    for row in rows:
        match row:
            case ["target", name, tid, iqn]:
                targets[int(tid)] = (name, iqn, {})
            case ["lun", name, tid, number, flag, scsi_id, serial, vendor, product, path, size]:
                luns.append(
                    LunFacts(
                        name=name,
                        target=targets[int(tid)][0],
                        number=int(number),
                        serial=serial,
                        scsi_id=scsi_id,
                        size_bytes=int(size),
                        path=f"{mount}/{path}",
                        write_policy=_POLICIES[flag],
                        file_bytes=None,
                        vendor_id=vendor,
                        product_id=product,
                    )
                )
            case ["acl", name, tid, address]:
                initiators = targets[int(tid)][2]
                initiators[name] = (*initiators.get(name, ()), address)
            case _:
                raise ValueError(" ".join(row)[:80])
    return Table(
        tuple(ExportedTarget(name, tid, iqn, initiators) for tid, (name, iqn, initiators) in targets.items()),
        tuple(luns),
    )
