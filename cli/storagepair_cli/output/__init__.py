"""A report as text, JSON, SARIF or JUnit: each a function from report to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from storagepair_cli.model import Report
from storagepair_cli.output import jsonreport, junit, sarif, text

FORMATS: Mapping[str, Callable[[Report], str]] = {
    "text": text.render,
    "json": jsonreport.render,
    "sarif": sarif.render,
    "junit": junit.render,
}

__all__ = ["FORMATS"]
