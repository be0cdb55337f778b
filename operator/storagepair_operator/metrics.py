"""What the operator counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Mapping


def exposition(writes: Mapping[tuple[str, str], int], silent_agents: int) -> str:
    """The answer to /metrics; `writes` counts by kind and part. The reference (docs/reference) is made from it."""
    name = "storagepair_operator_writes_total"
    lines = [f"# HELP {name} Objects written, by kind and part.", f"# TYPE {name} counter"]
    for (kind, what), count in sorted(writes.items()):
        lines.append(f'{name}{{kind="{kind}",what="{what}"}} {count}')
    name = "storagepair_operator_silent_agents"
    lines += [f"# HELP {name} Node agents that have not renewed their Lease in time.", f"# TYPE {name} gauge"]
    lines.append(f"{name} {silent_agents}")
    return "\n".join(lines)
