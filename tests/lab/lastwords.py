"""What a person would look at first when the stack does not get where it should."""

from __future__ import annotations

import json
from collections.abc import Callable

from lab.kubectl import KubectlError

_LOOK = (("get", "nodes"), ("get", "pods", "-A", "-o", "wide"), ("get", "events", "-A"))
_MOST_CHARACTERS = 4000


def told(kubectl: Callable[..., str], namespace: str) -> str:
    """Nodes, pods, events, and what the pods of `namespace` that aren't ready have logged last; never raises."""

    def ask(*words: str) -> str:
        try:
            return kubectl(*words)
        except KubectlError as error:
            return str(error)

    pieces = [ask(*words)[-_MOST_CHARACTERS:] for words in _LOOK]
    for name in _not_ready(ask("get", "pods", "-n", namespace, "-o", "json")):
        for more in ((), ("--previous",)):
            words = ("logs", "-n", namespace, name, "--tail=30", *more)
            pieces.append(f"--- {' '.join(words)}\n{ask(*words)}")
    return "\n".join(pieces)


def _not_ready(answer: str) -> list[str]:
    """The names of the pods in a list; none when the answer is a complaint, which is among the pieces already."""
    try:
        pods = json.loads(answer)["items"]
    except json.JSONDecodeError:
        return []
    return [
        pod["metadata"]["name"]
        for pod in pods
        if not any((c["type"], c["status"]) == ("Ready", "True") for c in pod["status"].get("conditions", []))
    ]
