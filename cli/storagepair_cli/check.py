"""Documents in, report out. Pure: files are read and reports are printed elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from storagepair_crds.schema import Problem, apply_defaults, definitions, validate
from storagepair_crds.views import API_VERSION, GROUP

from storagepair_cli.model import Document, Finding, Object, Position, Report, Severity
from storagepair_cli.pairs import Named, disagreements
from storagepair_cli.rules import broken, unchecked

UNKNOWN_FIELD = "schema/unknown-field"

_UNKNOWN = "additionalProperties"
_BLOCKING = frozenset({"required", "type", "enum", "maxLength", "maxItems", "const"})
"""After these the API server does not look at CEL rules: they could not be evaluated."""


def check(documents: Sequence[Document], *, namespace: str, strict: bool = False, partial: bool = False) -> Report:
    """Everything that is wrong with the documents, each for itself and with each other.

    `namespace` is where documents go that name none. With `strict` unknown fields are errors, as for kubectl; without
    it warnings, since the API server only drops them. `partial`: see `pairs.disagreements`.
    """
    findings: list[Finding] = []
    good: list[Named] = []
    checked: dict[Object, Document] = {}
    places: list[tuple[Object, Position]] = []
    skipped: Counter[str] = Counter()
    for document in documents:
        if document.api_version.partition("/")[0] != GROUP or "/" not in document.api_version:
            skipped[f"{document.api_version} {document.kind}"] += 1
            continue
        about = _about(document, namespace)
        told = [*_twice(about, document, checked.get(about)), *examine(document, about, strict=strict)]
        findings += told
        checked.setdefault(about, document)
        places.append((about, document.position("")))
        if not any(finding.severity is Severity.ERROR for finding in told):
            good.append((about, document))
    valid = {about for about, _ in good}
    findings += disagreements(good, [about for about in checked if about not in valid], partial=partial)
    kinds = dict.fromkeys(about.kind for about in checked if about.kind in definitions())
    return Report(
        findings=tuple(sorted(findings, key=lambda finding: (finding.position, finding.field, finding.message))),
        checked=tuple(places),
        skipped=dict(sorted(skipped.items())),
        unchecked=tuple(rule for kind in kinds for rule in unchecked(kind)),
        files=len({document.position("").file for document in documents}),
    )


def examine(document: Document, about: Object, *, strict: bool) -> list[Finding]:
    """What is wrong with one document of our group by itself: schema first, then rules, as the API server does it."""

    def finding(severity: Severity, rule: str, field: str, message: str) -> Finding:
        return Finding(severity, rule, document.position(field), about, field, message)

    if document.api_version != API_VERSION or document.kind not in definitions():
        field = "kind" if document.api_version == API_VERSION else "apiVersion"
        known = f"{API_VERSION} with one of {', '.join(sorted(definitions()))}"
        return [finding(Severity.ERROR, "schema/kind", field, f"is not known; known is {known}")]
    whole = apply_defaults(document.value)
    problems = validate(whole)
    found = [finding(_severity(p, strict=strict), _rule(p), p.field, p.message) for p in problems]
    if any(problem.keyword in _BLOCKING for problem in problems):
        message = "the rules that span several fields are not checked until the errors above are gone"
        return [*found, finding(Severity.NOTE, "cel/not-checked", "", message)]
    for rule in broken(whole):
        if rule.why:
            message = f"not checked offline: {rule.message} ({rule.why})"
            found.append(finding(Severity.NOTE, "cel/not-checked", rule.field, message))
        else:
            found.append(finding(Severity.ERROR, "cel", rule.field, rule.message))
    return found


def _about(document: Document, namespace: str) -> Object:
    crd = definitions().get(document.kind)
    cluster_wide = crd is not None and crd["spec"]["scope"] == "Cluster"
    return Object(document.kind, "" if cluster_wide else document.namespace or namespace, document.name)


def _twice(about: Object, document: Document, first: Document | None) -> Iterator[Finding]:
    if first is not None and about.name:
        place = first.position("")
        message = f"is there twice: {place.file}:{place.line} has it too; only one of them would be"
        position = document.position("metadata.name")
        yield Finding(Severity.ERROR, "duplicate", position, about, "metadata.name", message)


def _severity(problem: Problem, *, strict: bool) -> Severity:
    return Severity.WARNING if problem.keyword == _UNKNOWN and not strict else Severity.ERROR


def _rule(problem: Problem) -> str:
    return UNKNOWN_FIELD if problem.keyword == _UNKNOWN else f"schema/{problem.keyword}"
