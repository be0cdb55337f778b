"""The reference of the metrics, from what the operator itself answers."""

from __future__ import annotations

import re

from storagepair_operator.metrics import exposition

from docgen.markdown import cell, page, table

_INTRODUCTION = [
    "The operator answers `/metrics` in Prometheus' text format, beside `/healthz` and `/readyz` (`--health-port`).",
    "The agents have no metrics of their own in this version: what they see is in the StorageNodes' status.",
    "",
]


def metrics() -> str:
    """The page docs/reference/metrics.md."""
    text = exposition({("StoragePair", "status"): 1}, 0)
    rows = []
    for name, help_, type_ in re.findall(r"^# HELP (\S+) (.*)\n# TYPE \1 (\S+)$", text, flags=re.MULTILINE):
        labels = sorted(
            set(re.findall(r"(\w+)=\"", "".join(re.findall(rf"^{name}{{(.*)}}", text, flags=re.MULTILINE))))
        )
        rows.append((f"`{name}`", type_, ", ".join(f"`{label}`" for label in labels), cell(help_)))
    return page("Metrics", _INTRODUCTION, table(("metric", "type", "labels", "what it counts"), rows))
