"""What is told of a lab in which something went wrong."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lab import lastwords

# real, from an emulated storage node, shortened
CONSOLE = b"""\
[  179.999644] drbd storagepair: PingAck did not arrive in time.
[  453.951644] traps: PANIC: double fault, error_code: 0x0
[  453.956191] Oops: double fault: 0000 [#1] PREEMPT SMP NOPTI
[  453.962247] CPU: 0 UID: 0 PID: 671 Comm: guardian Not tainted 6.12.117+deb13-amd64 #1  Debian 6.12.117-1
[  453.976278] Kernel panic - not syncing: Fatal exception in interrupt
lab: ssh is up
"""


@pytest.fixture
def host(tmp_path):
    return SimpleNamespace(
        name="node2", spec=SimpleNamespace(console_log=tmp_path / "node2.console"), is_on=lambda: False
    )


def test_a_kernels_crash_is_found_among_what_is_none(host):
    host.spec.console_log.write_bytes(CONSOLE)
    assert lastwords.crashes(host) == [
        "PANIC: double fault, error_code: 0x0",
        "Oops: double fault: 0000 [#1] PREEMPT SMP NOPTI",
        "Kernel panic - not syncing: Fatal exception in interrupt",
    ]


def test_a_machine_that_said_nothing_did_not_crash(host):
    assert lastwords.crashes(host) == []
    host.spec.console_log.write_bytes(CONSOLE.splitlines()[0])
    assert lastwords.crashes(host) == []


def test_an_api_server_that_does_not_answer_keeps_nothing_else_from_being_told(host):
    def silent(*words: str) -> str:
        raise lastwords.KubectlError("connection refused")

    host.spec.console_log.write_bytes(CONSOLE)
    told = lastwords.of_pair(silent, [host])
    assert "connection refused" in told
    assert "PANIC: double fault" in told
