"""The cache builds a thing once, whoever asks, and keeps no half-built one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from lab import cache
from lab.waiting import wait_for

TESTS_DIR = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ROOT_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(folder: Path) -> None:
    (folder / "made").write_text("yes")


def fail(folder: Path) -> None:
    make(folder)
    raise RuntimeError("no")


def never(_folder: Path) -> None:
    raise AssertionError("built again")


def test_an_artifact_is_built_once_per_content(tmp_path: Path, own_cache: Path) -> None:
    recipe = tmp_path / "recipe"
    recipe.write_text("one")
    first = cache.artifact("thing", {"recipe": recipe, "flags": "-x"}, make)
    assert (first / "made").read_text() == "yes"
    assert first.parent == own_cache / "thing"
    assert cache.artifact("thing", {"flags": "-x", "recipe": recipe}, never) == first
    recipe.write_text("two")
    assert cache.artifact("thing", {"recipe": recipe, "flags": "-x"}, make) != first


def test_inputs_that_only_look_alike_differ() -> None:
    paths = {cache.artifact_path("thing", inputs) for inputs in ({"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""})}
    assert len(paths) == 3


def test_a_failed_build_leaves_nothing(own_cache: Path) -> None:
    with pytest.raises(RuntimeError, match="no"):
        cache.artifact("thing", {"a": "1"}, fail)
    assert [each.name for each in (own_cache / "thing").iterdir()] == [".lock"]
    cache.artifact("thing", {"a": "1"}, make)


def test_what_a_killed_build_left_is_swept_away(own_cache: Path) -> None:
    leftover = own_cache / "thing" / ".0123.tmp"
    leftover.mkdir(parents=True)
    cache.artifact("thing", {"a": "1"}, make)
    assert not leftover.exists()


def test_the_two_versions_used_last_are_kept() -> None:
    first = cache.artifact("thing", {"a": "1"}, make)
    second = cache.artifact("thing", {"a": "2"}, make)
    assert first.exists()
    cache.artifact("thing", {"a": "1"}, never)
    third = cache.artifact("thing", {"a": "3"}, make)
    assert [path.exists() for path in (first, second, third)] == [True, False, True]


def test_two_processes_build_one_artifact(own_cache: Path) -> None:
    program = (
        "import time; from lab import cache\n"
        "def make(folder): print('built', flush=True); time.sleep(0.5)\n"
        "print(cache.artifact('thing', {'a': '1'}, make), flush=True)\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", program], cwd=TESTS_DIR, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [worker.communicate(timeout=120)[0].splitlines() for worker in workers]
    assert sum(lines.count("built") for lines in outputs) == 1
    assert len({lines[-1] for lines in outputs}) == 1


def test_a_step_tells_start_pulse_and_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "HEARTBEAT_SECONDS", 0.05)
    said = ""

    def pulsed() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "still at it" in said

    with cache.step("building a boat"):
        wait_for(pulsed, "a pulse", 60)
    lines = (said + capsys.readouterr().err).splitlines()
    assert lines[0] == "==> building a boat ..."
    assert "building a boat: still at it after" in lines[1]
    assert re.search(r"building a boat: done in \d+\.\d s$", lines[-1])


def test_a_failed_step_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="leak"), cache.step("building a boat"):
        raise ValueError("leak")
    assert "building a boat: failed after" in capsys.readouterr().err
