"""Which wheels of a lock go into an image: those for its own Python, whichever Python builds it."""

from __future__ import annotations

from lab.images import SOURCES, for_python

LOCK = """\
attrs==26.1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via jsonschema
old==1.0 ; python_full_version < '3.13' \\
    --hash=sha256:cc
new==2.0 ; python_version >= "3.13" \\
    --hash=sha256:dd
strange==3.0 ; sys_platform == 'win32' \\
    --hash=sha256:ee
"""


def _names(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def test_markers_are_judged_for_the_python_that_is_asked_for() -> None:
    assert _names(for_python("3.13", LOCK)) == ["attrs==26.1.0", "new==2.0"]
    assert _names(for_python("3.11", LOCK)) == ["attrs==26.1.0", "old==1.0"]


def test_a_line_keeps_all_its_hashes_and_not_its_marker() -> None:
    attrs, new = for_python("3.13", LOCK)
    assert attrs.split()[1:] == ["--hash=sha256:aa", "--hash=sha256:bb"]
    assert ";" not in new


def test_every_wheel_of_our_locks_has_hashes() -> None:
    for source in SOURCES:
        assert source.locked()
        assert all("--hash=sha256:" in line and "==" in line for line in source.locked())
