"""The reference says what the code says: every field, condition reason, event reason and metric, and none other."""

from __future__ import annotations

import re
from typing import get_args

from docgen import pages, words
from docgen.code import agent_uses, move_words
from storagepair_crds.schema import definitions
from storagepair_node_agent import reasons as agent
from storagepair_operator import reasons as operator

REFERENCE = {path.name: path.read_text() for path in pages.PAGES if path.exists()}


def rows(page: str) -> set[str]:
    """The first column of a page's tables, where it is code."""
    return set(re.findall(r"^\| `([^`]+)` \|", REFERENCE[page], flags=re.MULTILINE))


def test_no_page_is_stale() -> None:
    assert pages.stale() == [], "run `make reference`"


def test_every_reason_has_a_meaning_and_a_remedy() -> None:
    assert set(agent.WORDS) == set(get_args(agent.Reason))
    assert set(agent.MOVE_WORDS) == agent.MOVE_REASONS
    vocabulary = [*agent.WORDS.items(), *agent.MOVE_WORDS.items(), *operator.WORDS.items()]
    lacking = [name for name, word in vocabulary if not (word.meaning.endswith((".", "`.")) and word.remedy)]
    assert lacking == []


def test_every_reason_of_the_agents_vocabulary_is_written_somewhere_and_none_other() -> None:
    # preflight's and the summary's verdicts pass on what another verdict says
    assert {use.reason for use in agent_uses()} == set(get_args(agent.Reason))


def test_the_hosts_script_and_the_agent_have_the_same_words_for_a_move() -> None:
    assert set(move_words()) <= agent.MOVE_REASONS
    assert set(move_words()) | set(words.FALLBACK) == agent.MOVE_REASONS


def test_every_reason_of_the_code_is_in_the_reference_and_none_other() -> None:
    known = {str(name) for name in operator.WORDS} | {*get_args(agent.Reason), *agent.MOVE_REASONS}
    assert rows("conditions.md") | rows("events.md") == known


def test_the_operators_events_are_in_the_reference() -> None:
    told = {reason for found in words.event_uses().values() for _, _, reason in found}
    assert rows("events.md") == told
    assert {str(reason) for reason in operator.WORDS} - rows("conditions.md") <= told


def test_every_field_of_every_kind_is_in_the_reference() -> None:
    for kind, crd in definitions().items():
        section = REFERENCE["api.md"].partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
        (version,) = crd["spec"]["versions"]
        for part in ("spec", "status"):
            properties = version["schema"]["openAPIV3Schema"]["properties"].get(part, {}).get("properties", {})
            for name in properties:
                assert f"| `{part}.{name}` |" in section, f"{kind} {part}.{name}"
