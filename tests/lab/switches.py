"""The lab's switches: learning Ethernet switches in user space, over unix sockets, without root.

Four switches in two pairs. A pair (service A/B, replication A/B) is joined by an inter-switch link, so that two
machines whose bonds chose different switches still see each other. One process serves all ports. Each port is a
unix stream socket in the run directory, to which QEMU's `-netdev stream` connects. A stream and not datagrams: the
kernel's default queues 10 datagrams, a TCP burst is longer, and one system call moves many frames.

`python -m lab.switches RUN_DIR PORT=SWITCH...` runs it; `SwitchClient` talks to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.niceness import give_to_session

SWITCHES: Mapping[str, str] = {"svcA": "svc", "svcB": "svc", "replA": "repl", "replB": "repl"}
SEGMENTS = tuple(dict.fromkeys(SWITCHES.values()))
CONTROL_SOCKET = "switches.sock"
_LENGTH = struct.Struct(">I")
_READ_BYTES = 256 << 10
_QUEUE_BYTES = 1 << 20
_NICENESS = -10
_BROADCAST_BIT = 1


class SwitchError(Exception):
    """The switch process refused a command or does not answer."""


def port_socket(run_dir: Path, port: str) -> Path:
    """Where the switch listens for the machine behind `port`."""
    return run_dir / f"{port}.sock"


@dataclass
class Fabric:
    """All switches: which port is on which switch, what is cut, and which address was last seen where.

    `ports` maps a port to its switch. A port that is cut, or on a switch that is off, neither sends nor receives.
    A cut inter-switch link separates the two switches of its segment.
    """

    ports: Mapping[str, str]
    cut_ports: set[str] = field(default_factory=set)
    off_switches: set[str] = field(default_factory=set)
    cut_links: set[str] = field(default_factory=set)
    _seen: dict[tuple[str, bytes], str] = field(default_factory=dict)
    _peers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = set(self.ports.values()) - set(SWITCHES)
        if unknown:
            raise SwitchError(f"unknown switches: {', '.join(sorted(unknown))}")
        self._recompute()

    def forward(self, port: str, frame: bytes) -> tuple[str, ...]:
        """The ports that get a frame which came in on `port`; learns the sender's address."""
        peers = self._peers[port]
        if not peers and not self._up(port):
            return ()
        segment = SWITCHES[self.ports[port]]
        self._seen[segment, frame[6:12]] = port
        if frame[0] & _BROADCAST_BIT:
            return peers
        target = self._seen.get((segment, frame[:6]))
        if target is None:
            return peers
        return (target,) if target in peers else ()

    def apply(self, action: str, name: str) -> None:
        """Change the wiring: `cut`/`join` a port, `off`/`on` a switch, `split`/`link` a segment's two switches."""
        actions = {
            "cut": (self.ports, self.cut_ports.add),
            "join": (self.ports, self.cut_ports.discard),
            "off": (SWITCHES, self.off_switches.add),
            "on": (SWITCHES, self.off_switches.discard),
            "split": (SEGMENTS, self.cut_links.add),
            "link": (SEGMENTS, self.cut_links.discard),
        }
        if action not in actions:
            raise SwitchError(f"unknown action {action!r}: choose from {', '.join(actions)}")
        known, change = actions[action]
        if name not in known:
            raise SwitchError(f"cannot {action} {name!r}: choose from {', '.join(known)}")
        change(name)
        self._recompute()

    def state(self) -> dict[str, Any]:
        """What is cut and off, for people and tests."""
        return {
            "ports": dict(self.ports),
            "cutPorts": sorted(self.cut_ports),
            "offSwitches": sorted(self.off_switches),
            "cutLinks": sorted(self.cut_links),
        }

    def _up(self, port: str) -> bool:
        return port not in self.cut_ports and self.ports[port] not in self.off_switches

    def _linked(self, one: str, other: str) -> bool:
        if self.ports[one] == self.ports[other]:
            return True
        segment = SWITCHES[self.ports[one]]
        if segment != SWITCHES[self.ports[other]] or segment in self.cut_links:
            return False
        # a link between two switches is dead with either of them
        return not {self.ports[one], self.ports[other]} & self.off_switches

    def _recompute(self) -> None:
        """Forget learned addresses and redo who reaches whom: a change is rare, a frame is not."""
        self._seen.clear()
        self._peers = {
            port: tuple(
                other
                for other in self.ports
                if other != port and self._up(port) and self._up(other) and self._linked(port, other)
            )
            for port in self.ports
        }


def split_frames(buffer: bytearray) -> list[bytes]:
    """Take the whole frames off the front of `buffer`: each has its length before it, in four bytes."""
    frames = []
    position = 0
    while len(buffer) - position >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(buffer, position)
        end = position + _LENGTH.size + length
        if end > len(buffer):
            break
        frames.append(bytes(buffer[position + _LENGTH.size : end]))
        position = end
    del buffer[:position]
    return frames


@dataclass
class _Attached:
    """A machine's NIC on its port: what came in and is not a whole frame yet, and what waits to go out."""

    sock: socket.socket
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)


class _Server:
    """Moves frames between the attached machines as the fabric says."""

    def __init__(self, run_dir: Path, fabric: Fabric) -> None:
        self._fabric = fabric
        self._selector = selectors.DefaultSelector()
        self._attached: dict[str, _Attached] = {}
        for port in fabric.ports:
            self._listen(run_dir, port)
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = run_dir / CONTROL_SOCKET
        path.unlink(missing_ok=True)
        self._control.bind(os.fspath(path))
        self._watch(self._control, self._command)

    def serve(self) -> None:
        """Run until killed."""
        while True:
            for key, events in self._selector.select():
                key.data(events)
            # what one turn brought goes out with one system call per port
            for port, attached in list(self._attached.items()):
                if attached.outgoing:
                    self._flush(port, attached)

    def _watch(self, sock: socket.socket, callback: Callable[[int], None]) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, callback)

    def _listen(self, run_dir: Path, port: str) -> None:
        path = port_socket(run_dir, port)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(os.fspath(path))
        listener.listen()
        self._watch(listener, lambda _events: self._attach(port, listener))

    def _attach(self, port: str, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = listener.accept()
            if port in self._attached:
                self._detach(port, self._attached[port])
            attached = self._attached[port] = _Attached(sock)
            self._watch(sock, lambda events: self._ready(port, attached, events))

    def _detach(self, port: str, attached: _Attached) -> None:
        self._selector.unregister(attached.sock)
        attached.sock.close()
        if self._attached.get(port) is attached:
            del self._attached[port]

    def _ready(self, port: str, attached: _Attached, events: int) -> None:
        if self._attached.get(port) is not attached:
            return  # replaced in this very turn
        if events & selectors.EVENT_READ:
            try:
                data = attached.sock.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._detach(port, attached)
                return
            attached.incoming += data
            for frame in split_frames(attached.incoming):
                self._forward(port, frame)

    def _forward(self, port: str, frame: bytes) -> None:
        for target in self._fabric.forward(port, frame):
            attached = self._attached.get(target)
            # a machine that is off or does not keep up loses frames, as in the field
            if attached is not None and len(attached.outgoing) < _QUEUE_BYTES:
                attached.outgoing += _LENGTH.pack(len(frame)) + frame

    def _flush(self, port: str, attached: _Attached) -> None:
        try:
            sent = attached.sock.send(attached.outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._detach(port, attached)
            return
        del attached.outgoing[:sent]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if attached.outgoing else 0)
        key = self._selector.get_key(attached.sock)
        if key.events != events:
            self._selector.modify(attached.sock, events, key.data)

    def _command(self, _events: int) -> None:
        data, sender = self._control.recvfrom(1 << 16)
        try:
            request = json.loads(data)
            if request["action"] != "state":
                self._fabric.apply(request["action"], request["name"])
            reply: dict[str, Any] = {"state": self._fabric.state()}
        except (SwitchError, ValueError, KeyError) as error:
            reply = {"error": str(error)}
        with contextlib.suppress(OSError):
            self._control.sendto(json.dumps(reply).encode(), sender)


@dataclass(frozen=True)
class SwitchClient:
    """Commands for the switch process of one run directory."""

    run_dir: Path
    timeout: float = 10.0

    def ask(self, action: str, name: str = "") -> dict[str, Any]:
        """Send one command (see `Fabric.apply`, or `state`) and return the wiring's state after it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind("")  # the kernel picks an abstract address for the reply
            sock.settimeout(self.timeout)
            try:
                sock.connect(os.fspath(self.run_dir / CONTROL_SOCKET))
                sock.send(json.dumps({"action": action, "name": name}).encode())
                reply = json.loads(sock.recv(1 << 16))
            except OSError as error:
                raise SwitchError(f"the switches of {self.run_dir} do not answer: {error}") from error
        if "error" in reply:
            raise SwitchError(reply["error"])
        state: dict[str, Any] = reply["state"]
        return state


def parse_ports(arguments: Iterable[str]) -> dict[str, str]:
    """`port=switch` arguments as a mapping."""
    return {port: switch for port, _, switch in (argument.partition("=") for argument in arguments)}


def main(arguments: Sequence[str]) -> int:
    """Serve the switches until killed."""
    run_dir, *ports = arguments
    # a frame that waits for a busy machine's processor is a slow network that nobody asked for
    with contextlib.suppress(PermissionError):
        os.nice(_NICENESS)
        give_to_session()
    _Server(Path(run_dir), Fabric(parse_ports(ports))).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
