"""The report as one JSON object, for programs. Fields are only ever added to it."""

from __future__ import annotations

import json

from storagepair_cli.model import Finding, Report, Severity


def render(report: Report) -> str:
    """The report as JSON."""
    whole = {
        "valid": not report.count(Severity.ERROR),
        "files": report.files,
        "checked": len(report.checked),
        "skipped": dict(report.skipped),
        "findings": [_finding(finding) for finding in report.findings],
        "notChecked": [
            {"kind": rule.kind, "field": rule.field, "rule": rule.rule, "message": rule.message, "why": rule.why}
            for rule in report.unchecked
        ],
    }
    return json.dumps(whole, indent=2) + "\n"


def _finding(finding: Finding) -> dict[str, str | int]:
    return {
        "severity": str(finding.severity),
        "rule": finding.rule,
        "file": finding.position.file,
        "line": finding.position.line,
        "column": finding.position.column,
        "kind": finding.about.kind,
        "namespace": finding.about.namespace,
        "name": finding.about.name,
        "field": finding.field,
        "message": finding.message,
    }
