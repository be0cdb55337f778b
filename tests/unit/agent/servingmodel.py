"""The active node of a pair as its scripts change it, for testing plans to their end: storage, table, tgtd, port."""

from __future__ import annotations

from dataclasses import replace

from storagepair_crds import views
from storagepair_node_agent import exports, identity
from storagepair_node_agent.hostfiles import EXPORTS, PORT, STORAGE, WITH_LOCK
from storagepair_node_agent.snapshot import LogicalUnit, TargetFacts
from storagepair_node_agent.subsystems import targets
from unit.agent import agentbuilders as a

MIB = 2**20
IQN = "iqn.2011-03.org.weithenn:iscsi.storage"


def entry(acl="esx", *addresses, state="Present"):
    return views.InitiatorEntry(acl=acl, addresses=addresses or ("10.10.25.0/24",), state=state)


def lun(name="datastore1", size=MIB, **more):
    return views.NodeLUN(name=name, target="default", size_bytes=size, **more)


ESX = entry()


def desired(*luns, initiators=(ESX,), service="Run"):
    target = views.NodeTarget(name="default", iqn=IQN, initiators=tuple(initiators))
    return a.desired(service=service, targets=(target,), luns=luns)


class Model:
    """The active node as the scripts change it: the storage, the table on it, tgtd, the port."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, int]] = {}  # LUN -> identity document, size
        self.table: str | None = None
        self.tgtd: dict[int, tuple[str, dict[int, LogicalUnit], list[str]]] = {}
        self.sessions: list[tuple[int, int, str, str]] = []
        self.port_open = False
        self.free = 100 * MIB
        self.broken = -1  # the number of the step that fails
        self.ran: list[tuple[str, ...]] = []
        self.looks = 0

    def facts(self, **more):
        table = exports.parse(self.table, "/storage") if self.table is not None else exports.Table()
        luns = tuple(replace(lun, file_bytes=self.files.get(lun.name, ("", None))[1]) for lun in table.luns)
        exported = {lun.name for lun in luns}
        self.looks += 1
        return a.service(
            virtual_ip=True,
            started=True,
            tgtd_running=True,
            port_open=self.port_open,
            storage_seen=True,
            table_readable=self.table is not None,
            exported_targets=table.targets,
            luns=luns,
            stored=tuple(
                identity.stored(name, text, size) for name, (text, size) in self.files.items() if name not in exported
            ),
            free_bytes=self.free - sum(size for _, size in self.files.values()),
            targets=tuple(
                TargetFacts(
                    tid,
                    iqn,
                    {n: u.path for n, u in units.items()},
                    tuple(acls),
                    tuple(self.sessions),
                    tuple(units.values()),
                )
                for tid, (iqn, units, acls) in self.tgtd.items()
            ),
            entropy=f"entropy{self.looks}",
            **more,
        )

    def plan(self, wanted, **more):
        snapshot = a.snapshot(
            drbd=a.drbd(up=True, role="Primary"),
            filesystem=a.filesystem(mounted_at="/storage"),
            service=self.facts(**more),
        )
        return targets.plan(wanted, snapshot)

    def apply(self, outcome) -> bool:
        """False when a step failed: what came before it is done."""
        for action in outcome.actions:
            for step in action.steps:
                if self.broken == 0:
                    self.broken = -1
                    return False
                self.broken -= 1
                self.ran.append(step.argv)
                self._run(step.argv, step.stdin)
        return True

    def converge(self, wanted):
        """Like the cycle: until nothing is left to do. A correct plan needs few passes."""
        for _ in range(8):
            outcome = self.plan(wanted)
            if not outcome.actions:
                return outcome.verdict
            self.apply(outcome)
        raise AssertionError(f"never settles: {outcome}")

    def _run(self, argv, stdin):
        locked = argv[0] == WITH_LOCK
        match argv[1:] if locked else argv:
            case (program, "put", path) if program == STORAGE:
                assert (locked, path) == (True, ".storagepair/exports")
                self.table = stdin
            case (program, "make-lun", name, size) if program == STORAGE:
                self.files.setdefault(name, (stdin, int(size)))
            case (program, "delete-lun", name) if program == STORAGE:
                assert all(
                    f"/{name}/" not in unit.path for _, units, _ in self.tgtd.values() for unit in units.values()
                )
                del self.files[name]
            case (program, "add-target", tid, iqn) if program == EXPORTS:
                assert f" {tid} {iqn}\n" in self.table
                self.tgtd[int(tid)] = (iqn, {}, [])
            case (program, "add-lun" | "replace-lun", tid, number, flags, scsi_id, serial, _, _, path) if (
                program == EXPORTS
            ):
                assert f" {scsi_id} {serial} " in self.table, "a LUN in tgtd that a failover would not find"
                assert path.split("/")[1] in self.files
                unit = LogicalUnit(int(number), f"/storage/{path}", scsi_id, serial, "" if flags == "-" else flags)
                self.tgtd[int(tid)][1][int(number)] = unit
            case (program, "remove-lun", tid, number) if program == EXPORTS:
                del self.tgtd[int(tid)][1][int(number)]
            case (program, "open") if program == PORT:
                self.port_open = True
            case ("tgtadm", _, _, "--op", "bind", _, _, _, tid, "-I", address):
                self.tgtd[int(tid)][2].append(address)
            case ("tgtadm", _, _, "--op", "unbind", _, _, _, tid, "-I", address):
                self.tgtd[int(tid)][2].remove(address)
            case ("tgtadm", _, _, "--op", "delete", _, "conn", _, _, _, sid, _, cid):
                self.sessions = [s for s in self.sessions if s[:2] != (int(sid), int(cid))]
            case other:
                raise AssertionError(f"unknown step {other}")

    @property
    def target(self):
        ((_, units, acls),) = self.tgtd.values()
        return units, acls

    def serving(self):
        """(LUN name -> number) as tgtd serves them."""
        return {unit.path.split("/")[3]: number for number, unit in self.target[0].items()}
