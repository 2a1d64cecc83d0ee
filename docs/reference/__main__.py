"""python -m docs.reference [--check]

Writes the generated part of docs/json.md. With --check, writes nothing, and fails if that part is
stale or if anything that the reference has to cover has no text.
"""

from __future__ import annotations

import sys

from docs.reference.pages import COMMAND, JSON_PAGE, PAGES, json_page
from docs.reference.text import Missing


def main(arguments: list[str]) -> int:
    try:
        for make in PAGES.values():
            make()
        page = json_page()
    except Missing as missing:
        print(f"The reference is not complete: {missing}.", file=sys.stderr)
        return 1
    if arguments == ["--check"]:
        if page != JSON_PAGE.read_text(encoding="utf-8"):
            print(f"docs/json.md is stale; write it again with `{COMMAND}`.", file=sys.stderr)
            return 1
        return 0
    JSON_PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
