"""The command `storagepair validate`: exit codes and formats that pipelines can rely on."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from storagepair_cli.main import main
from storagepair_cli.model import Finding, Object, Position, Report, Severity
from storagepair_cli.output import FORMATS

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "manifests" / "samples" / "storagepair.yaml"
SARIF = json.loads((ROOT / "tests" / "data" / "sarif-2.1.0-rtm.5.json").read_text())


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A misspelt field, a wrong size, a machine's name with an escape sequence; and a file that is no YAML."""
    text = SAMPLE.read_text()
    text = text.replace("size: 64Mi", "size: 1Gib\n  sise: 1").replace("name: node1", 'name: "no\\x1b[31m\\x01de"')
    (tmp_path / "bad one.yaml").write_text(text)
    (tmp_path / "worse.yaml").write_text("a: [")
    return tmp_path


def test_exit_codes(tmp_path: Path, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text(SAMPLE.read_text().replace("size: 64Mi", "size: 64Mi\n  sise: 1"))
    assert main(["validate", str(SAMPLE)]) == 0
    assert main(["validate", str(unknown)]) == 0
    assert main(["validate", "--strict", str(unknown)]) == 1
    assert main(["validate", str(bad / "bad one.yaml")]) == 1
    assert main(["validate", str(bad)]) == 2
    assert main(["validate", str(tmp_path / "missing.yaml")]) == 2
    for wrong in (["validate"], [], ["validate", "--output=pdf", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
    capsys.readouterr()


def test_a_line_is_what_editors_jump_to(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["validate", str(bad / "bad one.yaml")])
    lines = capsys.readouterr().out.splitlines()
    number = next(n for n, line in enumerate((bad / "bad one.yaml").read_text().splitlines(), 1) if "1Gib" in line)
    column = (bad / "bad one.yaml").read_text().splitlines()[number - 1].index("size:") + 1
    start = f"{bad}/bad one.yaml:{number}:{column}: LUN default/datastore1: spec.size: must be a whole multiple"
    assert any(line.startswith(start) for line in lines), lines
    assert any(line.startswith("not checked offline: LUN: spec.number, ") for line in lines)
    assert lines[-1].startswith("3 objects checked, ")
    assert "\x1b" not in "".join(lines)


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.TextIOWrapper(io.BytesIO(SAMPLE.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stream)
    assert main(["validate", "-"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 objects checked, 0 errors, 0 warnings"


def output(form: str, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    main(["validate", f"--output={form}", str(path)])
    return capsys.readouterr().out


def test_json(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads(output("json", bad, capsys))
    assert (whole["valid"], whole["files"], whole["checked"]) == (False, 2, 3)
    assert {finding["rule"] for finding in whole["findings"]} >= {"unreadable", "schema/unknown-field", "cel"}
    assert {rule["kind"] for rule in whole["notChecked"]} == {"StoragePair", "LUN", "InitiatorACL"}
    assert json.loads(output("json", SAMPLE, capsys))["valid"] is True


def test_sarif_is_what_its_schema_says(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    validator = jsonschema.Draft4Validator(SARIF)
    for path in (bad, SAMPLE):
        log = json.loads(output("sarif", path, capsys))
        assert list(validator.iter_errors(log)) == []
    log = json.loads(output("sarif", bad, capsys))
    (run,) = log["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert any("oldSelf" not in n["message"]["text"] for n in run["invocations"][0]["toolExecutionNotifications"])
    levels = {result["ruleId"]: result["level"] for result in run["results"]}
    assert levels["schema/unknown-field"] == "warning"
    assert levels["cel"] == "error"
    uris = [each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in run["results"]]
    assert any(uri.endswith("/bad%20one.yaml") for uri in uris)
    # the schema is looked at: what it forbids is found
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert list(validator.iter_errors(log))


def test_junit(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ET.fromstring(output("junit", bad, capsys))
    suites = {Path(suite.get("name", "")).name: suite for suite in root}
    assert {name: (s.get("tests"), s.get("failures"), s.get("errors")) for name, s in suites.items()} == {
        "bad one.yaml": ("3", "2", "0"),
        "worse.yaml": ("1", "0", "1"),
    }
    good = ET.fromstring(output("junit", SAMPLE, capsys))
    assert [case.find("failure") for case in good.iter("testcase")] == [None, None, None]
    assert "not checked offline" in (good.findtext("testsuite/system-out") or "")


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_hostile_words_are_made_harmless(form: str) -> None:
    words = "\x00\x1b]0;x\x07 ]]> <a> \ud800 \u202e"
    about = Object("LUN", words, words)
    place = Position(f"f{words}\n")
    finding = Finding(Severity.ERROR, "cel", place, about, words, words)
    text = FORMATS[form](Report((finding,), ((about, place),)))
    assert not {"\x00", "\x1b", "\x07"} & set(text)
    text.encode()
    reads: dict[str, Any] = {"junit": ET.fromstring, "json": json.loads, "sarif": json.loads}
    reads.get(form, str)(text)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["validate", "--help"])
    text = capsys.readouterr().out
    for word in ("exit codes", "kustomize build", "--strict", "--partial", "not checked", "sarif"):
        assert word in text


def test_it_runs_where_no_cluster_library_is() -> None:
    """Kopf, the Kubernetes client and the agent are not even imported."""
    code = (
        "import sys, storagepair_cli.main as m; m.main(['validate', sys.argv[1]]);"
        "print(sorted({'kopf', 'kubernetes', 'urllib3', 'pyroute2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(SAMPLE)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
