"""What `storagepair validate` finds, and that it says what it could not look at."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from storagepair_cli import rules
from storagepair_cli.check import check
from storagepair_cli.model import Finding, Report, Severity
from storagepair_cli.source import parse
from storagepair_crds.schema import definitions, openapi_schema

SAMPLE = Path(__file__).parents[3] / "manifests" / "samples" / "storagepair.yaml"
PAIR, LUN, ACL = yaml.safe_load_all(SAMPLE.read_text())
Json = Any


def run(*documents: Json, **options: Any) -> Report:
    text = yaml.safe_dump_all(documents, sort_keys=False)
    return check(parse(text.encode(), "f.yaml"), **{"namespace": "default", **options})


def made(document: Json, change: Callable[[Json], object] = lambda _: None, name: str = "") -> Json:
    result = copy.deepcopy(document)
    if name:
        result["metadata"]["name"] = name
    change(result)
    return result


def second_pair() -> Json:
    """A good pair that shares nothing with the sample."""

    def change(pair: Json) -> None:
        for node in pair["spec"]["nodes"]:
            node["name"] += "b"
        pair["spec"]["virtualIP"]["address"] = "10.10.25.137/24"
        pair["spec"]["targets"][0]["iqn"] += ".b"

    return made(PAIR, change, "second")


def errors(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.severity is Severity.ERROR]


def says(report: Report) -> list[tuple[str, str, str]]:
    return [(finding.rule, str(finding.about), finding.field) for finding in report.findings]


def test_the_sample_is_valid() -> None:
    report = check(parse(SAMPLE.read_bytes(), "f"), namespace="default", strict=True)
    assert report.findings == ()
    assert [str(about) for about, _ in report.checked] == [
        "StoragePair default/vmstore",
        "LUN default/datastore1",
        "InitiatorACL default/esx",
    ]


def test_two_pairs_that_share_nothing_are_valid() -> None:
    assert run(PAIR, LUN, second_pair(), strict=True).findings == ()


def _use_node(pair: Json) -> None:
    pair["spec"]["nodes"][1]["name"] = "node1"


def _use_vip(pair: Json) -> None:
    pair["spec"]["virtualIP"]["address"] = PAIR["spec"]["virtualIP"]["address"]


def _use_iqn(pair: Json) -> None:
    pair["spec"]["targets"][0]["iqn"] = PAIR["spec"]["targets"][0]["iqn"]


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        (_use_node, "NodeInOtherPair", "spec.nodes[1].name"),
        (_use_vip, "VIPInUse", "spec.virtualIP"),
        (_use_iqn, "IQNInUse", "spec.targets[0].iqn"),
    ],
)
def test_what_two_pairs_claim_is_refused_to_the_later_one(
    change: Callable[[Json], object], reason: str, field: str
) -> None:
    elsewhere = made(second_pair(), change)
    elsewhere["metadata"]["namespace"] = "other"
    report = run(PAIR, LUN, elsewhere, made(LUN, name="theirs") | {"metadata": {"name": "x", "namespace": "other"}})
    assert (f"pairs/{reason}", "StoragePair other/second", field) in says(report)
    (finding,) = [finding for finding in report.findings if finding.rule == f"pairs/{reason}"]
    assert "StoragePair default/vmstore" in finding.message
    assert finding.position.line > 20


def test_a_lun_whose_pair_is_not_there() -> None:
    report = run(LUN, ACL)
    assert says(report) == [
        ("pairs/PairNotFound", "LUN default/datastore1", "spec.pairRef"),
        ("pairs/PairNotFound", "InitiatorACL default/esx", "spec.pairRef"),
    ]
    assert errors(report)
    partial = run(LUN, ACL, partial=True)
    assert not errors(partial)
    assert all("not checked offline" in finding.message for finding in partial.findings)
    assert len(partial.findings) == 2


def test_a_lun_whose_pair_is_in_another_namespace() -> None:
    lun = made(LUN, lambda lun: lun["metadata"].update(namespace="other"))
    assert says(run(PAIR, lun)) == [("pairs/PairNotFound", "LUN other/datastore1", "spec.pairRef")]


def test_a_target_that_the_pair_does_not_have() -> None:
    report = run(PAIR, made(LUN, lambda lun: lun["spec"].update(target="gold")))
    assert says(report) == [("pairs/TargetNotFound", "LUN default/datastore1", "spec.target")]


def test_two_luns_with_one_number() -> None:
    numbered = [made(LUN, lambda lun: lun["spec"].update(number=7), name) for name in ("zz", "aa")]
    report = run(PAIR, *numbered)
    assert says(report) == [("pairs/NumberInUse", "LUN default/aa", "spec.number")]
    assert "is LUN zz" in report.findings[0].message


def test_what_hangs_on_an_invalid_pair_is_said_not_to_be_judged() -> None:
    pair = made(PAIR, lambda pair: pair["spec"].update(virtualIP={"bond": "bond0", "address": "10.10.26.1/24"}))
    report = run(pair, LUN)
    assert [finding.rule for finding in report.findings] == ["cel", "pairs/NotChecked"]
    assert len(errors(report)) == 1


def test_an_object_that_is_there_twice() -> None:
    report = run(PAIR, LUN, LUN)
    assert says(report) == [("duplicate", "LUN default/datastore1", "metadata.name")]
    assert "f.yaml:" in report.findings[0].message


def test_an_unknown_field_is_a_warning_or_an_error() -> None:
    pair = made(PAIR, lambda pair: pair["spec"]["nodes"][0].update(disc="/dev/vdc"))
    lax, strict = run(pair), run(pair, strict=True)
    assert says(lax) == says(strict) == [("schema/unknown-field", "StoragePair default/vmstore", "spec.nodes[0].disc")]
    assert not errors(lax)
    assert len(errors(strict)) == 1


def test_rules_wait_for_a_sound_form() -> None:
    report = run(made(LUN, lambda lun: lun["spec"].update(size=5, number=900)))
    assert ("cel/not-checked", "LUN default/datastore1", "") in says(report)
    assert ("schema/type", "LUN default/datastore1", "spec.size") in says(report)


def test_other_groups_are_skipped_and_counted() -> None:
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment"}
    report = run(deployment, deployment, {"apiVersion": "storagepair.dev.evil.org/v1", "kind": "LUN"})
    assert report.skipped == {"apps/v1 Deployment": 2, "storagepair.dev.evil.org/v1 LUN": 1}
    assert (report.findings, report.checked) == ((), ())


@pytest.mark.parametrize(
    ("version", "kind", "field"), [("v1", "LUN", "apiVersion"), ("v1alpha1", "Lun", "kind"), ("", "LUN", "apiVersion")]
)
def test_what_only_looks_like_ours_is_refused(version: str, kind: str, field: str) -> None:
    report = run({"apiVersion": f"storagepair.dev/{version}", "kind": kind, "metadata": {"name": "x"}})
    assert [(finding.rule, finding.field) for finding in report.findings] == [("schema/kind", field)]


@pytest.mark.parametrize("metadata", [None, 7, {}, {"name": 7}, {"name": None}])
def test_a_broken_metadata_is_no_crash(metadata: Json) -> None:
    assert errors(run(PAIR | {"metadata": metadata}))


def all_rules(schema: Json) -> list[str]:
    found = [rule["rule"] for rule in schema.get("x-kubernetes-validations", [])]
    parts = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    return found + list(itertools.chain.from_iterable(map(all_rules, parts)))


@pytest.mark.parametrize("kind", sorted(definitions()))
def test_no_rule_passes_unseen(kind: str) -> None:
    """A rule is either evaluated or listed; listed are those about changes and no others."""
    listed = [each.rule for each in rules.unchecked(kind)]
    assert listed == [rule for rule in all_rules(openapi_schema(kind)) if "oldSelf" in rule]
    assert all(each.why == "it compares with the object that the cluster has" for each in rules.unchecked(kind))


def test_a_rule_that_the_library_does_not_know_is_said_not_to_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = [
        {"rule": "self.size.split('G').size() > 1", "message": "one"},
        {"rule": "self.size.??", "message": "two"},
        {"rule": "self.nothing == 1", "message": "three"},
        {"rule": "self.size", "message": "four"},
    ]
    schema = {"properties": {"spec": {"x-kubernetes-validations": unknown}}}
    monkeypatch.setattr(rules, "openapi_schema", lambda kind: schema)
    rules.unchecked.cache_clear()
    try:
        assert [(each.field, each.message) for each in rules.unchecked("LUN")] == [("spec", "one"), ("spec", "two")]
        assert "does not know split" in rules.unchecked("LUN")[0].why
        at_run_time = list(rules.broken(LUN))
    finally:
        rules.unchecked.cache_clear()
    assert [(each.message, bool(each.why)) for each in at_run_time] == [("three", True), ("four", True)]
