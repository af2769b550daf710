"""Which of an image's packages are the system below it: the same in all images of a distribution, so one layer for all.

A package's needs are those of its control file (Debian policy 7): Pre-Depends and Depends, each of alternatives, also names
that another package provides.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from orchestrator.images.bases.dpkg import Control

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


def essential(controls: Sequence[Control], roots: Sequence[str]) -> set[str]:
    """Names of the essential packages among `controls`, of `roots`, and of all that they need, as far as it is there: of
    alternatives the first one. It depends on nothing but what it names, so that images which differ elsewhere agree."""
    by_name = {control.name: control for control in controls}
    providers: dict[str, str] = {}
    for control in sorted(controls, key=lambda control: control.name):
        for name in _names(control.fields.get("provides", "")):
            providers.setdefault(name, control.name)
    todo = [control.name for control in controls if control.fields.get("essential") == "yes" or control.name in roots]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += _needs(by_name[name], by_name, providers)
    return found


def _needs(control: Control, by_name: Collection[str], providers: Mapping[str, str]) -> Iterator[str]:
    for field in ("pre-depends", "depends"):
        for wanted in control.fields.get(field, "").split(","):
            names = [name for choice in wanted.split("|") for name in _names(choice)]
            for name in names:
                package = name if name in by_name else providers.get(name)
                if package is not None:
                    yield package
                    break


def _names(text: str) -> Iterator[str]:
    """``libc6 (>= 2.36), perl:any`` without versions and architectures."""
    for part in text.split(","):
        if match := _NAME.match(part.strip()):
            yield match[0]
