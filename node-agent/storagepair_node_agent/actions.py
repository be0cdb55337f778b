"""What a plan consists of: named actions made of a few primitive steps, and the one place that carries them out.

A subsystem's `plan()` is pure and returns an `Outcome`; its actions are data, so that `storagepair-node-agent plan`
prints exactly what a pass would do. `apply()` runs the steps of one action in order and stops at the first that fails:
the next pass observes the host again and plans from what is there.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from dataclasses import dataclass

from storagepair_node_agent.host import Host
from storagepair_node_agent.reasons import Reason


@dataclass(frozen=True)
class Run:
    """Run a program on the host: an argument list, never a shell. `stdin` is never shown (it may hold a secret)."""

    argv: tuple[str, ...]
    timeout_seconds: float = 30
    stdin: str | None = None

    def describe(self) -> str:
        return f"run {shlex.join(self.argv)}"


@dataclass(frozen=True)
class WriteFile:
    """Replace a file on the host as a whole (temporary file, fsync, rename). `secret` hides the content everywhere."""

    path: str
    content: str
    mode: int = 0o644
    secret: bool = False

    def describe(self) -> str:
        return f"write {self.path} (mode {self.mode:04o}, {len(self.content)} bytes)"


@dataclass(frozen=True)
class RemoveFile:
    path: str

    def describe(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True)
class MakeDirectory:
    path: str
    mode: int = 0o755

    def describe(self) -> str:
        return f"make directory {self.path} (mode {self.mode:04o})"


@dataclass(frozen=True)
class RunAndKeep:
    """Run a program at most once, and keep what came of it in a file on the host, as a JSON object.

    `note` is written before the program runs, and again with its `exitCode` and what it `said` (the last line of its
    output) after it: a note without them means that it was begun and nobody saw its end. The program's failure is an
    outcome to be kept, not a failure of the step.
    """

    argv: tuple[str, ...]
    path: str
    note: tuple[tuple[str, str | int], ...]
    timeout_seconds: float = 30

    def describe(self) -> str:
        return f"run {shlex.join(self.argv)}, once, and keep what came of it in {self.path}"


Step = Run | WriteFile | RemoveFile | MakeDirectory | RunAndKeep


@dataclass(frozen=True)
class Action:
    """A named change of the host: `name` as in `drbd.create-metadata`, `summary` a sentence for people."""

    name: str
    summary: str
    steps: tuple[Step, ...]
    rollback: tuple[Step, ...] = ()  # run, all of them, when a step failed: takes back what this action made

    def describe(self) -> str:
        return "\n".join([f"{self.name}: {self.summary}", *(f"    {step.describe()}" for step in self.steps)])


@dataclass(frozen=True)
class Verdict:
    """A subsystem's condition for the StorageNode: True when the host is as desired, else why not and what to do.

    `waiting`: not ready yet, on its way or waiting for another part, and nobody has to do anything. Such a condition
    is Unknown; one that needs a person is False.
    """

    ready: bool
    reason: Reason
    message: str  # names field, host and remedy when not ready
    waiting: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a subsystem's plan() says: the actions to take now, in order, and the verdict on the host as observed."""

    verdict: Verdict
    actions: tuple[Action, ...] = ()


class StepFailed(Exception):
    """A step of an action failed; the message names the action, the step and what the host said."""


def apply(host: Host, action: Action) -> None:
    """Carry out one action, step by step, and record it in the host's action log.

    Raises StepFailed at the first step that fails; steps after it are not run, the action's rollback is.
    """
    host.log_action(json.dumps({"action": action.name, "summary": action.summary}))
    for step in action.steps:
        try:
            _carry_out(host, step)
        except (OSError, RuntimeError) as error:
            _roll_back(host, action)
            raise StepFailed(f"{action.name}: {step.describe()}: {error}") from error


def _roll_back(host: Host, action: Action) -> None:
    """Best effort: a rollback step may fail because what it would take back was never made."""
    if action.rollback:
        host.log_action(json.dumps({"action": action.name, "rollback": [s.describe() for s in action.rollback]}))
    for step in action.rollback:
        with contextlib.suppress(OSError, RuntimeError):
            _carry_out(host, step)


def _carry_out(host: Host, step: Step) -> None:
    match step:
        case Run(argv, timeout, stdin):
            result = host.run(argv, timeout_seconds=timeout, stdin=stdin)
            if result.returncode != 0:
                raise RuntimeError(f"exit code {result.returncode}: {result.complaint()}")
        case WriteFile(path, content, mode, _):
            host.write(path, content, mode)
        case RemoveFile(path):
            host.remove(path)
        case MakeDirectory(path, mode):
            host.make_directory(path, mode)
        case RunAndKeep(argv, path, note, timeout):
            host.write(path, json.dumps(dict(note)) + "\n", 0o600)
            result = host.run(argv, timeout_seconds=timeout)
            ended = {**dict(note), "exitCode": result.returncode, "said": result.last_word()}
            host.write(path, json.dumps(ended) + "\n", 0o600)
