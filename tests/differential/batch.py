"""Many small cases in one call: each case becomes a service of a shared stack, and a difference is found by halving.

A case has a service body for each compose file of the stack, and perhaps a second service that it extends. A stack that
both loaders read the same way is done with one call; anything else is split until the cases responsible stand alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.differential.forms import FILES, REST
from tests.differential.oracle import Stack, ask_ours, compare, written

FILE_NAMES = ("compose.yaml", "over.yaml", "third.yaml")
SIZE = 40


@dataclass(frozen=True, slots=True)
class Case:
    """A service: its body in each of the files, ``@`` standing for its name; `base` is the body of a service ``@-base``."""

    bodies: tuple[str, ...]
    base: str | None = None


def stack_of(cases: Sequence[Case]) -> Stack:
    """One stack with a service (or two) for each case; every profile is on."""
    texts = {name: ["services:"] for name in FILE_NAMES}
    used = max(len(case.bodies) for case in cases)
    for number, case in enumerate(cases):
        name = f"s{number}"
        for file_name, body in zip(FILE_NAMES, case.bodies):
            texts[file_name].append(f"  {name}: {body.replace('@', name)}")
        if case.base is not None:
            texts[FILE_NAMES[0]].append(f"  {name}-base: {case.base}")
    files: dict[str, str | bytes] = dict(FILES)
    for name in FILE_NAMES[:used]:
        files[name] = "\n".join(texts[name]) + "\n"
    files[FILE_NAMES[0]] = "\n".join(texts[FILE_NAMES[0]]) + REST
    return Stack(files, compose=FILE_NAMES[:used], profiles=("*",))


def accepted(case: Case) -> bool:
    """Whether our loader reads the case alone."""
    stack = stack_of([case])
    with written(stack) as folder:
        return not ask_ours(stack, folder).failed


def differences(cases: Mapping[str, Case], jobs: int = 2, size: int = SIZE, sort: bool = True) -> dict[str, str]:
    """The cases that differ and how. `sort`: cases that we refuse are asked one by one from the start."""
    alone = [name for name, case in cases.items() if not accepted(case)] if sort else []
    lonely = set(alone)
    rest = [name for name in cases if name not in lonely]
    groups = [[name] for name in alone] + [rest[i : i + size] for i in range(0, len(rest), size)]
    found: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for part in pool.map(lambda group: _search(cases, group), groups):
            found.update(part)
    return found


def _search(cases: Mapping[str, Case], names: list[str]) -> dict[str, str]:
    stack = stack_of([cases[name] for name in names])
    difference = compare(stack)
    if len(names) == 1:
        return {names[0]: difference} if difference else {}
    if difference is None and _read(stack):
        return {}
    middle = len(names) // 2
    return _search(cases, names[:middle]) | _search(cases, names[middle:])


def _read(stack: Stack) -> bool:
    """Both loaders agree already; this tells a shared success from a shared refusal, which hides what stands beside it."""
    with written(stack) as folder:
        return not ask_ours(stack, folder).failed
