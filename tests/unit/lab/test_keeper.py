"""The keeper leaves nothing behind, whoever dies and however."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.keeper import Keeper, KeeperError, KeeperGone, NotRunning

TESTS_DIR = Path(__file__).resolve().parents[2]
SLEEP = ["sleep", "600"]


def alive(pid: int) -> bool:
    """Zombies count as gone: who reaps orphans here is the machine's business."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    # not tmp_path: a unix socket's path holds 107 bytes
    path = Path(tempfile.mkdtemp(prefix="keeper-", dir="/tmp"))
    yield path
    Keeper(path).shutdown()
    shutil.rmtree(path)


@pytest.fixture
def keeper(run_dir: Path) -> Keeper:
    return Keeper.start(run_dir, owner_pid=os.getpid())


def test_spawned_process_runs_logs_and_tells_its_status(keeper: Keeper, run_dir: Path) -> None:
    log = run_dir / "logs" / "one.log"
    keeper.spawn("one", ["/bin/sh", "-c", 'echo "$GREETING"; pwd; exit 3'], log=log, env={"GREETING": "hello"})
    wait_until(lambda: keeper.exit_status("one") is not None, "end of one")
    assert keeper.exit_status("one") == 3
    assert log.read_text().splitlines() == ["hello", str(run_dir)]
    assert keeper.running() == {}


def test_kill_returns_the_time_and_the_process_is_reaped(keeper: Keeper, run_dir: Path) -> None:
    pid = keeper.spawn("sleeper", SLEEP, log=run_dir / "log")
    assert keeper.running() == {"sleeper": pid}
    before = time.time()
    sent = keeper.kill("sleeper")
    assert before <= sent <= time.time()
    assert not Path(f"/proc/{pid}").exists()
    assert keeper.exit_status("sleeper") == -signal.SIGKILL
    assert keeper.spawn("sleeper", SLEEP, log=run_dir / "log") != pid


def test_errors_are_clear(keeper: Keeper, run_dir: Path) -> None:
    with pytest.raises(NotRunning, match="'nobody'"):
        keeper.kill("nobody")
    with pytest.raises(NotRunning, match="'nobody'"):
        keeper.exit_status("nobody")
    with pytest.raises(KeeperError, match=r"cannot start ghost: .*no-such-program"):
        keeper.spawn("ghost", ["/no-such-program"], log=run_dir / "log")
    pid = keeper.spawn("sleeper", SLEEP, log=run_dir / "log")
    with pytest.raises(KeeperError, match=rf"sleeper already runs \(pid {pid}\)"):
        keeper.spawn("sleeper", SLEEP, log=run_dir / "log")
    with pytest.raises(KeeperError, match="already runs in"):
        Keeper.start(run_dir, owner_pid=None)
    keeper.kill("sleeper")
    with pytest.raises(NotRunning, match=r"sleeper has ended \(status -9\)"):
        keeper.kill("sleeper")


def test_a_process_that_ignores_the_signal_is_reported(keeper: Keeper, run_dir: Path) -> None:
    log = run_dir / "log"
    keeper.spawn("stubborn", ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], log=log)
    wait_until(lambda: "ready" in log.read_text(), "the trap")
    with pytest.raises(KeeperError, match="did not end in time"):
        keeper.kill("stubborn", signal.SIGTERM, timeout=0.2)
    assert "stubborn" in keeper.running()


def test_one_clients_wait_does_not_hold_up_another(keeper: Keeper, run_dir: Path) -> None:
    keeper.spawn("frozen", SLEEP, log=run_dir / "log")
    keeper.signal("frozen", signal.SIGSTOP)
    waiting = threading.Thread(target=lambda: keeper.kill("frozen", signal.SIGTERM, timeout=60))
    waiting.start()
    started = time.monotonic()
    keeper.spawn("other", SLEEP, log=run_dir / "log")
    assert time.monotonic() - started < 30
    keeper.signal("frozen", signal.SIGCONT)  # the pending SIGTERM ends it now
    waiting.join(60)
    assert not waiting.is_alive()
    assert keeper.exit_status("frozen") == -signal.SIGTERM


def test_grandchildren_go_with_the_child(keeper: Keeper, run_dir: Path) -> None:
    log = run_dir / "log"
    keeper.spawn("parent", ["/bin/sh", "-c", "sleep 600 & echo $!; wait"], log=log)
    wait_until(lambda: log.exists() and log.read_text().endswith("\n"), "the grandchild's pid")
    grandchild = int(log.read_text())
    keeper.kill("parent")
    wait_until(lambda: not alive(grandchild), "end of the grandchild")


def test_shutdown_ends_all_and_connect_then_fails(keeper: Keeper, run_dir: Path) -> None:
    pids = [keeper.spawn(f"s{i}", SLEEP, log=run_dir / "log") for i in range(5)]
    daemon = keeper.pid
    again = Keeper.connect(run_dir)
    assert len(again.running()) == 5
    again.shutdown()
    assert not any(alive(pid) for pid in pids)
    wait_until(lambda: not alive(daemon), "end of the daemon", 2)
    with pytest.raises(KeeperGone, match=str(run_dir)):
        Keeper.connect(run_dir)
    keeper.shutdown()  # twice is fine


def test_sigterm_to_the_keeper_ends_all(keeper: Keeper, run_dir: Path) -> None:
    pid, daemon = keeper.spawn("sleeper", SLEEP, log=run_dir / "log"), keeper.pid
    os.kill(daemon, signal.SIGTERM)
    wait_until(lambda: not alive(pid) and not alive(daemon), "end of both")


def test_killed_keeper_takes_its_children_along(keeper: Keeper, run_dir: Path) -> None:
    pids = [keeper.spawn(f"s{i}", SLEEP, log=run_dir / "log") for i in range(3)]
    os.kill(keeper.pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in pids), "end of the children")
    with pytest.raises(KeeperGone):
        keeper.running()
    Keeper.start(run_dir, owner_pid=None).shutdown()  # the stale socket is no obstacle


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_killed_owner_takes_everything_along(run_dir: Path, end: signal.Signals | None) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from lab.keeper import Keeper\n"
        "k = Keeper.start(Path(sys.argv[1]), owner_pid=os.getpid())\n"
        "print(k.pid, k.spawn('s', ['sleep', '600'], log=Path(sys.argv[1]) / 'log'), flush=True)\n"
        "sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(run_dir)],
        cwd=TESTS_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert owner.stdin is not None
    assert owner.stdout is not None
    daemon, child = map(int, owner.stdout.readline().split())
    assert alive(daemon)
    assert alive(child)
    if end is None:
        owner.stdin.close()
    else:
        owner.send_signal(end)
    owner.wait(60)
    wait_until(lambda: not alive(child) and not alive(daemon), "end of the child and the keeper")
    owner.stdout.close()


def test_keeper_without_owner_outlives_its_starter(run_dir: Path) -> None:
    program = "import sys; from pathlib import Path; from lab.keeper import Keeper\n"
    program += "Keeper.start(Path(sys.argv[1]), owner_pid=None).spawn('s', ['sleep', '600'], log=Path('/dev/null'))"
    subprocess.run([sys.executable, "-c", program, str(run_dir)], cwd=TESTS_DIR, check=True, timeout=120)
    assert list(Keeper.connect(run_dir).running()) == ["s"]


def test_what_a_nice_lab_starts_is_as_nice_to_other_sessions(run_dir: Path) -> None:
    program = "import os, sys; from pathlib import Path; from lab.keeper import Keeper; os.nice(5)\n"
    program += "Keeper.start(Path(sys.argv[1]), owner_pid=None).spawn('s', ['sleep', '600'], log=Path('/dev/null'))"
    niceness = os.getpriority(os.PRIO_PROCESS, 0) + 5
    subprocess.run([sys.executable, "-c", program, str(run_dir)], cwd=TESTS_DIR, check=True, timeout=120)
    pid = Keeper.connect(run_dir).running()["s"]
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(niceness, 19)
    if Path("/proc/self/autogroup").exists():  # else the kernel has no such groups
        assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == str(min(niceness, 19))


def test_owner_that_does_not_exist_is_refused(run_dir: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(KeeperError, match="did not start"):
        Keeper.start(run_dir, owner_pid=gone.pid)


def test_too_long_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeeperError, match="too long for a unix socket"):
        Keeper.start(tmp_path / ("x" * 100), owner_pid=None)
