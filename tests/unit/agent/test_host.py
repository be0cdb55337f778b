"""Programs on the host: their output, their time limit, and what is done while one runs on and on."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from storagepair_node_agent import host as module
from storagepair_node_agent.host import Host


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(module, "_MEANWHILE_SECONDS", 0.1)
    host = Host()
    host.calls = 0

    def count():
        host.calls += 1

    host.meanwhile = count
    return host


def test_a_program_says_and_reads_what_it_should(host, monkeypatch):
    monkeypatch.setattr(module, "_MEANWHILE_SECONDS", 600)  # no machine is so slow
    result = host.run(("sh", "-c", "cat; echo no >&2; exit 3"), stdin="given")
    assert (result.returncode, result.stdout, result.stderr) == (3, "given", "no\n")
    assert host.run(("no-such-program",)).returncode == 127
    assert host.calls == 0


def test_a_long_one_gets_its_input_once_and_leaves_time_for_others(host, tmp_path):
    """It ends when others have had their time three times."""
    enough, count = tmp_path / "enough", host.meanwhile

    def meanwhile():
        count()
        if host.calls == 3:
            enough.touch()

    host.meanwhile = meanwhile
    wait = 'until [ -e "$1" ]; do sleep 0.02; done; cat'
    result = host.run(("sh", "-c", wait, "sh", str(enough)), stdin="x" * 200_000, timeout_seconds=60)
    assert (result.returncode, len(result.stdout)) == (0, 200_000)
    assert host.calls >= 3


def test_at_its_limit_it_is_killed(host):
    began = time.monotonic()
    result = host.run(("sleep", "60"), timeout_seconds=0.3)
    assert (result.returncode, result.stderr) == (124, "no answer from sleep within 0.3 s")
    assert time.monotonic() - began < 10


def test_nothing_is_done_for_one_that_can_t_even_be_killed(host, monkeypatch):
    """By a clock that goes on with each look at the program: ten looks, a limit after two and a half."""
    looks, unstuck, wait = [], threading.Event(), module.wait

    def look(runs, seconds):
        looks.append(seconds)
        if len(looks) == 10:
            unstuck.set()
        return wait(runs, None if len(looks) == 10 else 0)

    monkeypatch.setattr(module, "wait", look)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(len(looks))))
    monkeypatch.setattr(host, "_run", lambda argv, limit, stdin: unstuck.wait(60) and "late")
    assert host.run(("stuck",), timeout_seconds=2.5) == "late"
    assert (len(looks), host.calls) == (10, 2)
