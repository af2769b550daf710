"""``python -m tests.differential.report [FILE]``: where the loaders differ now, grouped, with a small example each."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.differential.batch import Case, differences, stack_of
from tests.differential.families import stack_families
from tests.differential.forms import Form, body, service_forms
from tests.differential.forms_parts import part_forms
from tests.differential.oracle import Stack, compare_all
from tests.differential.pairs import extends_cases, merge_cases, tag_cases

EXAMPLES = 2


def found() -> Iterator[tuple[str, str, str, Stack]]:
    """(family, case, difference, stack) for every case of every family that differs."""
    forms = {str(form): form for form in [*service_forms(), *part_forms()]}
    single = {name: Case((body(form),)) for name, form in forms.items()}
    wrong: set[Form] = set()
    for name, how in _measured("forms", lambda: differences(single)).items():
        wrong.add(forms[name])
        yield "forms", name, how, stack_of([single[name]])
    for family, stacks in stack_families().items():
        hows = _measured(family, lambda: dict(zip(stacks, compare_all(stacks.values()))))  # noqa: B023
        for name, difference in hows.items():
            if difference is not None:
                yield family, name, difference, stacks[name]
    for family, make in (("merge", merge_cases), ("extends", extends_cases), ("tags", tag_cases)):
        cases = make(wrong)
        for name, how in _measured(family, lambda: differences(cases, sort=False)).items():  # noqa: B023
            yield family, name, how, stack_of([cases[name]])


def _measured(family: str, work: Callable[[], dict[str, str]] | Callable[[], dict[str, str | None]]) -> dict[str, str]:
    start = time.monotonic()
    out = {name: how for name, how in work().items() if how is not None}
    print(f"{family}: {len(out)} differ, {time.monotonic() - start:.0f} s", file=sys.stderr)
    return out


def signature(case: str, how: str) -> str:
    """What two differences of one cause have in common: the attribute, and the message without names and numbers."""
    head = case.split(":")[0]
    text = re.sub(r"/tmp/\S+|s\d+|\d+|\"[^\"]*\"|'[^']*'|\[.*\]|\{.*\}", "_", how)
    return f"{head} {text[:60]}"


def main() -> int:
    groups: dict[str, dict[str, list[tuple[str, str, Stack]]]] = {}
    for family, case, how, stack in found():
        groups.setdefault(family, {}).setdefault(signature(case, how), []).append((case, how, stack))
    lines = ["# Differences from Docker Compose v5.6.1", ""]
    for family, causes in groups.items():
        lines += [f"## {family}: {sum(map(len, causes.values()))} in {len(causes)} groups", ""]
        for cases in causes.values():
            for case, how, _ in cases[:EXAMPLES]:
                lines += [f"* `{case}`", f"  - {how}"]
            lines += [f"  - (and {len(cases) - EXAMPLES} more like it)"] if len(cases) > EXAMPLES else []
        lines.append("")
    text = "\n".join(lines) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text)
    else:
        print(text)
    return 1 if groups else 0


if __name__ == "__main__":
    sys.exit(main())
