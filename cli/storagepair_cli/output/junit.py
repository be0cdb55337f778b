"""The report as JUnit XML, which CI systems show as tests: a suite a file, a case an object."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from storagepair_cli.model import UNREADABLE, Finding, Object, Position, Report, Severity
from storagepair_cli.output import text


def render(report: Report) -> str:
    """The report as JUnit XML. What could not be read is an error, what is invalid a failure."""
    root = ET.Element("testsuites", name="storagepair validate")
    files = dict.fromkeys([finding.position.file for finding in report.findings] + [p.file for _, p in report.checked])
    for file in sorted(files):
        findings = [finding for finding in report.findings if finding.position.file == file]
        cases = list(_cases(report, file, findings))
        suite = ET.SubElement(root, "testsuite", name=_clean(file), tests=str(len(cases)))
        suite.set("failures", str(sum(1 for case in cases if case.find("failure") is not None)))
        suite.set("errors", str(sum(1 for case in cases if case.find("error") is not None)))
        suite.extend(cases)
    lines = [f"{rule.kind}: {rule.field}: {rule.message} ({rule.why})" for rule in report.unchecked]
    if lines and len(root):
        ET.SubElement(root[0], "system-out").text = _clean("not checked offline:\n" + "\n".join(lines))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _cases(report: Report, file: str, findings: list[Finding]) -> Iterator[ET.Element]:
    # the same object may be there twice, so that a case is one by its place
    places: dict[tuple[Object, Position], list[Finding]] = {
        (about, position): [] for about, position in report.checked if position.file == file
    }
    for finding in findings:
        if finding.rule == UNREADABLE:
            yield _case("readable", file, [finding])
        else:
            _place(places, finding).append(finding)
    for (about, position), told in places.items():
        yield _case(f"{about} (line {position.line})", file, told)


def _place(places: dict[tuple[Object, Position], list[Finding]], finding: Finding) -> list[Finding]:
    before = [place for place in places if place[0] == finding.about and place[1] <= finding.position]
    return places[max(before, key=lambda place: place[1])]


def _case(name: str, file: str, findings: list[Finding]) -> ET.Element:
    case = ET.Element("testcase", classname=_clean(file), name=_clean(name))
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        kind = "error" if errors[0].rule == UNREADABLE else "failure"
        body = ET.SubElement(case, kind, type=errors[0].rule, message=_clean(errors[0].message))
        body.text = _clean("\n".join(text.line(finding) for finding in errors))
    others = [text.line(finding) for finding in findings if finding.severity is not Severity.ERROR]
    if others:
        ET.SubElement(case, "system-out").text = _clean("\n".join(others))
    return case


def _clean(words: str) -> str:
    """XML 1.0 has no place for control characters, however they are written."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in words)
