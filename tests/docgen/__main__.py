"""`make reference`: write the reference's pages anew from the code.

python -m docgen [--check]      --check: write nothing, exit code 1 when a page is stale
"""

from __future__ import annotations

import argparse
import sys

from docgen.pages import PAGES, stale


def main() -> int:
    """Write the pages, or with --check only compare them."""
    parser = argparse.ArgumentParser(prog="docgen", description="The reference's pages, made from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a page is stale")
    check = parser.parse_args().check
    found = stale()
    for path in found:
        print(f"{path}: {'stale, run `make reference`' if check else 'written'}", file=sys.stderr)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(PAGES[path]())
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
