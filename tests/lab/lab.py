"""A lab: two storage nodes, an initiator and four switches on this machine. The facade for tests and people.

`Lab.up("demo")`, then `lab.node1.ssh(...)`, `lab.node1.unplug("eth0")`, `lab.switch_off("svcA")`,
`lab.node2.power_cut()`, `lab.cut_api()`, `lab.snapshot("tag")`, `lab.restore("tag")`, and `lab.down()`.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from lab import accel, booted, cache, emulator, registry, state, tsc
from lab.booted import Template
from lab.guest import BOOT_SECONDS, Guest
from lab.image import DEFAULT_SUITE, GuestImage, MorePackages, guest_image
from lab.keeper import Keeper, KeeperGone
from lab.kubelayer import KubeLayer
from lab.machine import INITIATOR, STORAGE, MachineSpec
from lab.state import LabError, LabState
from lab.switches import CONTROL_SOCKET, SWITCHES, SwitchClient
from lab.together import together
from lab.waiting import wait_for

MACHINES = {"node1": STORAGE, "node2": STORAGE, "initiator": INITIATOR}
_SWITCH_PROCESS = "switches"
_SNAPSHOTS_FILE = "snapshots.json"
_SWITCH_SECONDS = 30.0


class Participant(Protocol):
    """What is saved and restored with the machines, such as a control plane."""

    def save(self, tag: str) -> None:
        """Keep the present state as `tag`."""

    def restore(self, tag: str) -> None:
        """Go back to the state `tag`."""


class LabGuest(Guest):
    """A machine of a lab, with the faults that need the lab's wiring."""

    def __init__(self, lab: Lab, spec: MachineSpec, settings: LabState) -> None:
        super().__init__(lab.keeper, spec, Path(settings.ssh_key), volatile_disk=settings.volatile_disks)
        self._lab = lab

    def unplug(self, nic: str) -> None:
        """Pull a card's cable: its carrier goes, as with a real cable. It stays pulled over reboots."""
        self._check(nic)
        self._lab.rewire(unplug=self.spec.port(nic))

    def plug(self, nic: str) -> None:
        """Put the cable back."""
        self._check(nic)
        self._lab.rewire(plug=self.spec.port(nic))

    def power_up(self) -> None:
        """Give the machine power; `wait_ssh` tells when it is there."""
        self._lab.power_up(self)

    def _check(self, nic: str) -> None:
        names = [each.name for each in self.spec.role.nics]
        if nic not in names:
            raise LabError(f"{self.name} has no {nic!r}: choose from {', '.join(names)}")


class Lab:
    """A lab that was brought up. Any process can open it by its name; they may use it at the same time."""

    def __init__(self, run_dir: Path, keeper: Keeper) -> None:
        self.run_dir = run_dir
        self.keeper = keeper
        self.participants: list[Participant] = []
        settings = state.load(run_dir)
        self.machines = {
            name: LabGuest(self, _spec(settings, run_dir, name, index), settings)
            for index, name in enumerate(MACHINES, start=1)
        }
        self.node1, self.node2, self.initiator = self.machines.values()
        self.nodes = (self.node1, self.node2)

    # --- life ---------------------------------------------------------------------------------------------------

    @classmethod
    def up(
        cls,
        name: str,
        *,
        suite: str = DEFAULT_SUITE,
        kube: KubeLayer | None = None,
        more: MorePackages | None = None,
        owner_pid: int | None = None,
        memory_mib: int = 512,
        data_mib: int = 192,
        volatile_disks: bool = False,
        boot: bool = False,
    ) -> Lab:
        """Bring up a lab of bare machines, booted and ready for commands. What is missing is built first.

        The machines start from the saved state of an earlier boot, unless a real one is asked for with `boot`.
        With `owner_pid` every process of the lab ends when that one does, however it ends. With `volatile_disks` the
        storage nodes' data disks lose at a power cut what was not flushed to them. With `more` packages
        they have an image of their own.
        """
        if registry.is_up(name):
            raise LabError(f"the lab {name!r} is up already: `down` ends it, or choose another name")
        registry.remove_dead()
        image = guest_image(suite, kube, more=more)
        qemu = emulator.emulator()
        accelerator = accel.choose(qemu, image.kernel, image.initrd)
        settings = LabState(
            name=name,
            suite=suite,
            kube=kube is not None,
            emulator=str(qemu),
            accelerator=accelerator,
            ssh_key=str(image.ssh_key),
            loopback=0,
            memory_mib=memory_mib,
            data_mib=data_mib,
            owned=owner_pid is not None,
            volatile_disks=volatile_disks,
            tsc_khz=tsc.khz() if accelerator == "tcg" else 0,
        )
        if boot:
            return cls._start(settings, image, None, owner_pid)

        def make(new: Template) -> None:
            with cache.step(f"booting machines for the first time (Debian {suite}, with {accelerator})"):
                first = replace(settings, name=f"boot-{os.getpid()}", owned=True, volatile_disks=False)
                lab = cls._start(first, image, None, os.getpid())
                try:
                    new.save(lab.machines.values())
                finally:
                    lab.down()

        saved = booted.template(image, settings, make, kind=more.name if more else "")
        return cls._start(settings, image, saved, owner_pid)

    @classmethod
    def _start(cls, settings: LabState, image: GuestImage, saved: Template | None, owner_pid: int | None) -> Lab:
        run_dir = state.run_dir(settings.name)
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        with state.locked(run_dir.parent):
            registry.remove_files(settings.name)
            keeper = Keeper.start(run_dir, owner_pid=owner_pid)
            settings = replace(settings, loopback=state.free_loopback(registry.taken_loopbacks()))
            state.save(run_dir, settings)
        lab = cls(run_dir, keeper)
        try:
            lab._boot(settings, image, saved)
        except BaseException:
            lab.down(keep_logs=True)
            raise
        return lab

    @classmethod
    def open(cls, name: str) -> Lab:
        """The running lab `name`."""
        run_dir = state.run_dir(name)
        state.load(run_dir)
        try:
            return cls(run_dir, Keeper.connect(run_dir))
        except KeeperGone:
            raise LabError(f"the lab {name!r} has ended: `down` removes what is left, `up` makes it anew") from None

    def down(self, *, keep_logs: bool = False) -> None:
        """End every process of the lab and remove its files (the logs stay where asked for)."""
        self.keeper.shutdown()
        registry.remove_files(self.run_dir.name, keep_logs=keep_logs)

    @property
    def settings(self) -> LabState:
        """The lab's settings and wiring as they are now, whoever changed them."""
        return state.load(self.run_dir)

    def status(self) -> dict[str, Any]:
        """What is on, what is cut, which snapshots there are."""
        settings = self.settings
        running = self.keeper.running()
        return {
            "name": settings.name,
            "suite": settings.suite,
            "kube": settings.kube,
            "accelerator": settings.accelerator,
            "volatileDisks": settings.volatile_disks,
            "machines": {
                name: {"power": "on" if name in running else "off", "pid": running.get(name), "ssh": guest.loopback}
                for name, guest in self.machines.items()
            },
            "unplugged": list(settings.unplugged),
            "switches": {name: "off" if name in settings.off_switches else "on" for name in SWITCHES},
            "api": "cut" if settings.api_cut else "reachable",
            "snapshots": sorted(self._snapshots()),
            "logs": str(self.run_dir),
        }

    def wait_ssh(self, timeout: float = BOOT_SECONDS) -> None:
        """Wait until commands work in every machine that has power."""
        together(lambda guest: guest.wait_ssh(timeout), self._powered())

    # --- faults -------------------------------------------------------------------------------------------------

    def switch_off(self, name: str) -> None:
        """Switch a switch off: every card on it loses its carrier, and its link to the other switch is dead."""
        self._check_switch(name)
        SwitchClient(self.run_dir).ask("off", name)
        self.rewire(switch_off=name)

    def switch_on(self, name: str) -> None:
        """Switch it on again."""
        self._check_switch(name)
        SwitchClient(self.run_dir).ask("on", name)
        self.rewire(switch_on=name)

    def blackout(self) -> None:
        """Take the power of both storage nodes away at the same instant."""
        together(lambda guest: guest.power_cut(), self.nodes)

    def cut_api(self) -> None:
        """Cut the nodes off the API server: the cable of their cluster network is pulled. Ssh still works."""
        self.rewire(api_cut=True)

    def restore_api(self) -> None:
        """Put the cluster network's cables back."""
        self.rewire(api_cut=False)

    def rewire(self, **change: Any) -> None:
        """Change the wiring as `state.rewire` does, remember it, and give every card its new carrier."""
        with state.locked(self.run_dir):
            settings = state.rewire(self.settings, **change)
            state.save(self.run_dir, settings)
            together(lambda guest: guest.apply_wiring(settings), self._powered())

    def power_up(self, guest: Guest) -> None:
        """Give a machine power."""
        with state.locked(self.run_dir):
            if guest.is_on():
                raise LabError(f"{guest.name} has power")
            guest.power_on(wiring=self.settings)

    # --- snapshots ----------------------------------------------------------------------------------------------

    def snapshot(self, tag: str) -> None:
        """Save the whole lab as `tag`: machines, disks, wiring, participants. It goes on where it was."""
        with state.locked(self.run_dir):
            powered = self._powered()
            together(Guest.pause, powered)
            try:
                for participant in self.participants:
                    participant.save(tag)
                together(lambda guest: guest.save(tag), self.machines.values())
            finally:
                together(Guest.resume, powered)
            wiring = asdict(self.settings)
            known = self._snapshots()
            known[tag] = {"on": [guest.name for guest in powered], "wiring": wiring}
            (self.run_dir / _SNAPSHOTS_FILE).write_text(json.dumps(known, indent=1))
        together(Guest.set_clock, powered)

    def restore(self, tag: str) -> None:
        """Bring the whole lab back to `tag`, in fresh processes, with the clocks set; ready for commands."""
        with state.locked(self.run_dir):
            known = self._snapshots()
            if tag not in known:
                raise LabError(f"there is no snapshot {tag!r}: {', '.join(sorted(known)) or 'none was made'}")
            together(lambda guest: guest.power_cut(), self._powered())
            wiring = LabState(**known[tag]["wiring"])
            self._wire_switches(wiring)
            state.save(self.run_dir, wiring)
            on = [guest for guest in self.machines.values() if guest.name in known[tag]["on"]]
            together(lambda guest: guest.load_disks(tag), [g for g in self.machines.values() if g not in on])
            with ThreadPoolExecutor(max_workers=1) as pool:
                others = [pool.submit(participant.restore, tag) for participant in self.participants]
                together(lambda guest: guest.power_on(wiring=wiring, restore=tag), on)
                for other in others:  # before any machine goes on and asks for them
                    other.result()
            together(Guest.resume, on)
        together(lambda guest: guest.wait_ssh(), on)

    def _snapshots(self) -> dict[str, Any]:
        file = self.run_dir / _SNAPSHOTS_FILE
        known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return known

    # --- within -------------------------------------------------------------------------------------------------

    def _boot(self, settings: LabState, image: GuestImage, saved: Template | None) -> None:
        folder = state.disks_dir(settings.name)
        folder.mkdir(parents=True)
        booted.link_files(image, saved, folder)
        self._start_switches()

        def start(guest: LabGuest) -> None:
            if saved is None:
                guest.make_disks(settings.data_mib, booted.BASE)
                guest.power_on(wiring=settings)
            else:
                guest.make_disks(settings.data_mib, saved.root(guest.name), saved.data(guest.name))
                guest.power_on(wiring=settings, memory=folder / saved.memory(guest.name))

        with cache.step(f"starting the machines of the lab {settings.name}"):
            together(start, self.machines.values())
            if saved is not None:
                together(Guest.resume, self.machines.values())
            self.wait_ssh()
            together(Guest.wait_booted, self.machines.values())

    def _start_switches(self) -> None:
        ports = {port: switch for guest in self.machines.values() for port, switch in guest.spec.ports().items()}
        command = [sys.executable, "-m", "lab.switches", str(self.run_dir)]
        command += [f"{port}={switch}" for port, switch in ports.items()]
        environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        self.keeper.spawn(_SWITCH_PROCESS, command, log=self.run_dir / "switches.log", env=environment)
        # its last act before it serves
        wait_for((self.run_dir / CONTROL_SOCKET).exists, "the switches to start", _SWITCH_SECONDS)

    def _wire_switches(self, settings: LabState) -> None:
        client = SwitchClient(self.run_dir)
        for name in SWITCHES:
            client.ask("off" if name in settings.off_switches else "on", name)

    def _powered(self) -> list[LabGuest]:
        running = self.keeper.running()
        return [guest for guest in self.machines.values() if guest.name in running]

    def _check_switch(self, name: str) -> None:
        if name not in SWITCHES:
            raise LabError(f"there is no switch {name!r}: choose from {', '.join(SWITCHES)}")


def _spec(settings: LabState, run_dir: Path, name: str, index: int) -> MachineSpec:
    disks = state.disks_dir(settings.name)
    return MachineSpec(
        name=name,
        role=MACHINES[name],
        index=index,
        run_dir=run_dir,
        kernel=disks / booted.KERNEL,
        initrd=disks / booted.INITRD,
        root_disk=disks / f"{name}.qcow2",
        data_disk=disks / f"{name}-data.qcow2",
        loopback=settings.address(index),
        emulator=Path(settings.emulator),
        accelerator=settings.accelerator,
        memory_mib=settings.memory_mib,
        kube=settings.kube,
        tsc_khz=settings.tsc_khz,
    )
