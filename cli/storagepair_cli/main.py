"""The command line of `storagepair`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from storagepair_cli.check import check
from storagepair_cli.model import Report, Severity
from storagepair_cli.output import FORMATS
from storagepair_cli.source import read

VALID, INVALID, UNUSABLE = 0, 1, 2

_VALIDATE = """\
Check documents of the group storagepair.dev without a cluster, as a pipeline does before it applies them:

  1. the schema of the CRDs: types, patterns, bounds, fields that are missing or misspelt;
  2. the CRDs' rules (CEL) that span several fields, such as "the floating address lies in the nodes' network";
  3. what the documents say of each other, by the operator's own judgement: a LUN whose StoragePair or target is
     missing, two LUNs with one number, a machine in two pairs, an IQN or a floating address used twice.

Rules about changes (what is immutable) compare with the object in the cluster: they are listed as not checked.
Objects of other groups are skipped and counted.
"""

_EXAMPLES = """\
examples:
  storagepair validate storagepair.yaml
  kustomize build overlays/production | storagepair validate -
  storagepair validate --output=sarif --strict manifests/ > validate.sarif
  storagepair validate --partial lun.yaml        its StoragePair is in the cluster already

exit codes:
  0  all that was checked is valid (there may be warnings and notes)
  1  something is invalid
  2  wrong usage, or a file that could not be read
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; returns the exit code."""
    options = _parser().parse_args(arguments)
    source = read(options.files)
    report = check(source.documents, namespace=options.namespace, strict=options.strict, partial=options.partial)
    report = replace(report, findings=(*source.problems, *report.findings), files=source.files)
    try:
        sys.stdout.write(FORMATS[options.output](report))
        sys.stdout.flush()
    except BrokenPipeError:  # as with `| head`: whoever reads has seen enough
        sys.stderr.close()
    return code(report)


def code(report: Report) -> int:
    """The exit code that a report means."""
    if report.unreadable:
        return UNUSABLE
    return INVALID if report.count(Severity.ERROR) else VALID


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="storagepair", description="Tools for storagepair's documents.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    validate = commands.add_parser(
        "validate",
        help="check documents without a cluster",
        description=_VALIDATE,
        epilog=_EXAMPLES,
        formatter_class=formatter,
    )
    add = validate.add_argument
    add("files", nargs="+", metavar="FILE", help="a file, a folder (with all below it), or - for standard input")
    add("-o", "--output", choices=tuple(FORMATS), default="text", help="how the result is written (default: text)")
    add("--strict", action="store_true", help="unknown fields are errors, as for kubectl apply; else warnings")
    add("--partial", action="store_true", help="the files are only a part: a missing StoragePair is a note, no error")
    add("-n", "--namespace", default="default", help="of documents that name none (default: default)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
