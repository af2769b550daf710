"""Assemble CHANGELOG.md from the fragments in this directory (see README.md). Prints it; ``--write`` replaces the file.

Ends with 2 when a fragment's name is not NAME.KIND.md or a fragment is empty.
"""

from __future__ import annotations

import sys
from pathlib import Path

KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed", "removed": "Removed", "security": "Security"}
HEADING = "# Changelog\n"
UNRELEASED = "## Unreleased\n"


def assemble(fragments: dict[str, str], released: str) -> str:
    """`fragments`: file name -> text. `released`: the part of the changelog below "Unreleased", kept as it is.

    Raises ValueError that names the fragment which is wrong.
    """
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in sorted(fragments):
        pieces = name.split(".")
        text = " ".join(fragments[name].split())
        if len(pieces) != 3 or pieces[1] not in KINDS:
            raise ValueError(f"{name} is not NAME.KIND.md with a KIND of {', '.join(KINDS)}")
        if not text:
            raise ValueError(f"{name} is empty")
        by_kind[pieces[1]].append(f"- {text}\n")
    sections = [f"### {title}\n\n{''.join(by_kind[kind])}" for kind, title in KINDS.items() if by_kind[kind]]
    parts = [HEADING, UNRELEASED, *sections] + ([released] if released else [])
    return "\n".join(parts)


def released_part(changelog: str) -> str:
    """Everything from the second ``## `` heading on."""
    lines = changelog.splitlines(keepends=True)
    headings = [number for number, line in enumerate(lines) if line.startswith("## ")]
    return "".join(lines[headings[1] :]) if len(headings) > 1 else ""


def main(arguments: list[str]) -> int:
    here = Path(__file__).resolve().parent
    target = here.parent / "CHANGELOG.md"
    fragments = {path.name: path.read_text(encoding="utf-8") for path in here.glob("*.md") if path.name != "README.md"}
    old = target.read_text(encoding="utf-8") if target.exists() else ""
    try:
        text = assemble(fragments, released_part(old))
    except ValueError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 2
    if "--write" in arguments:
        target.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
