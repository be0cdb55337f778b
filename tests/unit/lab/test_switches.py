"""The switches' forwarding: who gets a frame, with everything plugged in and with something cut."""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path

import pytest
from lab import switches
from lab.switches import Fabric, SwitchError, split_frames

PORTS = {
    "node1-eth0": "svcA",
    "node1-eth1": "svcB",
    "node1-eth2": "replA",
    "node2-eth0": "svcA",
    "node2-eth1": "svcB",
    "node2-eth2": "replA",
}
ONE, TWO, BROADCAST = b"\x52\x54\x00\x00\x00\x01", b"\x52\x54\x00\x00\x00\x02", b"\xff" * 6


def frame(target: bytes, source: bytes) -> bytes:
    return target + source + b"\x08\x00payload"


def test_a_broadcast_reaches_the_whole_segment_and_nothing_else() -> None:
    assert set(Fabric(PORTS).forward("node1-eth0", frame(BROADCAST, ONE))) == {"node1-eth1", "node2-eth0", "node2-eth1"}


def test_a_learned_address_gets_its_frames_alone() -> None:
    fabric = Fabric(PORTS)
    assert len(fabric.forward("node1-eth0", frame(TWO, ONE))) == 3
    fabric.forward("node2-eth1", frame(ONE, TWO))
    assert fabric.forward("node1-eth0", frame(TWO, ONE)) == ("node2-eth1",)


def test_an_address_that_moved_is_followed() -> None:
    fabric = Fabric(PORTS)
    fabric.forward("node2-eth1", frame(BROADCAST, TWO))
    fabric.forward("node2-eth0", frame(BROADCAST, TWO))
    assert fabric.forward("node1-eth0", frame(TWO, ONE)) == ("node2-eth0",)


def test_a_frame_never_goes_back_where_it_came_from() -> None:
    fabric = Fabric(PORTS)
    fabric.forward("node1-eth0", frame(BROADCAST, ONE))
    assert fabric.forward("node1-eth0", frame(ONE, TWO)) == ()


def test_a_cut_port_neither_sends_nor_receives() -> None:
    fabric = Fabric(PORTS)
    fabric.apply("cut", "node2-eth0")
    assert "node2-eth0" not in fabric.forward("node1-eth0", frame(BROADCAST, ONE))
    assert fabric.forward("node2-eth0", frame(BROADCAST, TWO)) == ()
    fabric.apply("join", "node2-eth0")
    assert "node2-eth0" in fabric.forward("node1-eth0", frame(BROADCAST, ONE))


def test_a_change_of_the_wiring_forgets_what_was_learned() -> None:
    fabric = Fabric(PORTS)
    fabric.forward("node2-eth0", frame(BROADCAST, TWO))
    fabric.apply("cut", "node2-eth0")
    # node2's bond now speaks on the other switch; until it does, everybody there is asked
    assert fabric.forward("node1-eth0", frame(TWO, ONE)) == ("node1-eth1", "node2-eth1")


def test_a_switch_that_is_off_takes_its_ports_along() -> None:
    fabric = Fabric(PORTS)
    fabric.apply("off", "svcA")
    assert fabric.forward("node1-eth0", frame(BROADCAST, ONE)) == ()
    assert fabric.forward("node1-eth1", frame(BROADCAST, ONE)) == ("node2-eth1",)
    fabric.apply("on", "svcA")
    assert len(fabric.forward("node1-eth1", frame(BROADCAST, ONE))) == 3


def test_without_the_link_between_them_two_switches_are_apart() -> None:
    fabric = Fabric(PORTS)
    fabric.apply("split", "svc")
    assert fabric.forward("node1-eth0", frame(BROADCAST, ONE)) == ("node2-eth0",)
    assert fabric.forward("node1-eth1", frame(BROADCAST, ONE)) == ("node2-eth1",)
    assert fabric.forward("node1-eth2", frame(BROADCAST, ONE)) == ("node2-eth2",)


@pytest.mark.parametrize(
    ("action", "name"), [("cut", "node9-eth0"), ("off", "svcC"), ("split", "svcA"), ("burn", "svcA")]
)
def test_what_is_unknown_is_refused(action: str, name: str) -> None:
    with pytest.raises(SwitchError):
        Fabric(PORTS).apply(action, name)


def test_a_port_on_an_unknown_switch_is_refused() -> None:
    with pytest.raises(SwitchError, match="svcC"):
        Fabric({"node1-eth0": "svcC"})


def test_frames_are_split_wherever_the_stream_was_cut() -> None:
    frames = [b"a" * 60, b"", b"b" * 1514]
    stream = b"".join(struct.pack(">I", len(each)) + each for each in frames)
    buffer, found = bytearray(), []
    for position in range(0, len(stream), 7):
        buffer += stream[position : position + 7]
        found += split_frames(buffer)
    assert found == frames
    assert not buffer


def test_the_process_moves_frames_between_sockets_and_obeys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [f"{port}={switch}" for port, switch in PORTS.items()]
    monkeypatch.setattr(os, "nice", lambda _: 0)
    threading.Thread(target=switches.main, args=([str(tmp_path), *ports],), daemon=True).start()
    client = switches.SwitchClient(tmp_path)
    for _ in range(500):
        if (tmp_path / switches.CONTROL_SOCKET).exists():
            break
        threading.Event().wait(0.01)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as two,
    ):
        for sock, port in ((one, "node1-eth0"), (two, "node2-eth1")):
            sock.settimeout(10)
            sock.connect(str(switches.port_socket(tmp_path, port)))
        # answered after both were attached: one thread, in order
        assert client.ask("state")["offSwitches"] == []
        sent = frame(BROADCAST, ONE)
        one.sendall(struct.pack(">I", len(sent)) + sent)
        assert two.recv(4096) == struct.pack(">I", len(sent)) + sent
        assert client.ask("off", "svcB")["offSwitches"] == ["svcB"]
        one.sendall(struct.pack(">I", len(sent)) + sent)
        two.settimeout(0.3)
        with pytest.raises(TimeoutError):
            two.recv(4096)
    with pytest.raises(SwitchError, match="svcC"):
        client.ask("off", "svcC")
