"""One line a finding, as compilers have it, so that editors jump there; then what was not checked, and the sum."""

from __future__ import annotations

from storagepair_cli.model import Finding, Report, Severity, Unchecked


def render(report: Report) -> str:
    """The report for people. Control characters of documents don't reach the terminal."""
    lines = [line(finding) for finding in report.findings]
    lines += _unchecked(report.unchecked)
    lines.append(summary(report))
    return "\n".join(_printable(each) for each in lines) + "\n"


def summary(report: Report) -> str:
    """The sum of a run in one line."""
    parts = [
        _count(len(report.checked), "object") + " checked",
        _count(report.count(Severity.ERROR), "error"),
        _count(report.count(Severity.WARNING), "warning"),
    ]
    if report.skipped:
        which = ", ".join(f"{number} {what}" for what, number in report.skipped.items())
        parts.append(f"{_count(sum(report.skipped.values()), 'object')} of other groups skipped ({which})")
    return ", ".join(parts)


def line(finding: Finding) -> str:
    """One finding: `file:line:column: object: field: message`."""
    place = finding.position
    severity = "" if finding.severity is Severity.ERROR else f"{finding.severity}: "
    parts = [str(finding.about), finding.field, severity + finding.message]
    return f"{place.file}:{place.line}:{place.column}: " + ": ".join(part for part in parts if part)


def _unchecked(rules: tuple[Unchecked, ...]) -> list[str]:
    fields: dict[tuple[str, str], dict[str, None]] = {}
    for rule in rules:
        fields.setdefault((rule.kind, rule.why), {})[rule.field] = None
    return [f"not checked offline: {kind}: {', '.join(names)}: {why}" for (kind, why), names in fields.items()]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _printable(words: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
