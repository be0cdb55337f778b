"""The report as SARIF 2.1.0, which forges show beside the changed lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from storagepair_cli.model import Finding, Report, Unchecked

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render(report: Report) -> str:
    """The report as a SARIF log with one run."""
    rules = sorted({finding.rule for finding in report.findings})
    run = {
        "tool": {"driver": {"name": "storagepair validate", "rules": [{"id": rule} for rule in rules]}},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not report.unreadable,
                "toolExecutionNotifications": [_notification(rule) for rule in report.unchecked],
            }
        ],
        "results": [_result(finding, rules.index(finding.rule)) for finding in report.findings],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    named = ": ".join(part for part in (str(finding.about), finding.field, finding.message) if part)
    place = finding.position
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": quote(Path(place.file).as_posix(), errors="surrogatepass")},
            "region": {"startLine": place.line, "startColumn": place.column},
        }
    }
    if str(finding.about):
        location["logicalLocations"] = [{"fullyQualifiedName": str(finding.about), "kind": "object"}]
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": str(finding.severity),
        "message": {"text": named},
        "locations": [location],
    }


def _notification(rule: Unchecked) -> dict[str, Any]:
    text = f"not checked offline: {rule.kind}: {rule.field}: {rule.message} ({rule.why})"
    return {"level": "note", "message": {"text": text}}
