"""A random stack before it is text: files, sections, elements, attributes, each value a piece of YAML on one line.

Keeping it apart lets a stack that shows a difference be made small: parts are left out while the difference stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.differential.oracle import Stack

Element: TypeAlias = "dict[str, str]"
Sections: TypeAlias = "dict[str, dict[str, Element]]"
INLINE = ""
"""The key of an element that is one piece of text: ``name: TEXT``."""


@dataclass(slots=True)
class File:
    """A compose file: loose top-level lines, and sections of named elements."""

    lines: dict[str, str] = field(default_factory=dict)
    sections: Sections = field(default_factory=dict)

    def text(self) -> str:
        out = [f"{key}: {value}" for key, value in self.lines.items()]
        for section, elements in self.sections.items():
            if elements:
                out.append(f"{section}:")
            for name, element in elements.items():
                if INLINE in element:
                    out.append(f"  {name}: {element[INLINE]}")
                    continue
                out.append(f"  {name}:" if element else f"  {name}: {{}}")
                out += [f"    {attribute}: {value}" for attribute, value in element.items()]
        return "\n".join(out) + "\n"


@dataclass(slots=True)
class Draft:
    """A whole stack: `files` by path, `other` files as text, and how the loader is called."""

    files: dict[str, File]
    compose: tuple[str, ...]
    other: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    def stack(self) -> Stack:
        files: dict[str, str | bytes] = {**self.other}
        files.update({name: item.text() for name, item in self.files.items()})
        return Stack(files, self.compose, dict(self.environment), self.profiles, services=self.services)


def smaller(draft: Draft, differs: Callable[[Draft], bool], limit: int = 400) -> Draft:
    """`draft` with as much left out as keeps it differing; at most `limit` attempts."""
    tried = 0
    found = True
    while found and tried < limit:
        found = False
        for cut in _cuts(draft):
            attempt = deepcopy(draft)
            cut(attempt)
            tried += 1
            if tried > limit:
                return draft
            if differs(attempt):
                draft, found = attempt, True
                break
    return draft


def _cuts(draft: Draft) -> Iterator[Callable[[Draft], None]]:
    """Ways to make it smaller, the big ones first."""
    if draft.services:
        yield lambda d: setattr(d, "services", ())
    if draft.profiles:
        yield lambda d: setattr(d, "profiles", ())
    for name in draft.compose[1:]:
        yield lambda d, n=name: setattr(d, "compose", tuple(x for x in d.compose if x != n))  # type: ignore[misc]
    for path, item in draft.files.items():
        for key in item.lines:
            yield lambda d, p=path, k=key: d.files[p].lines.pop(k)  # type: ignore[misc]
        for section, elements in item.sections.items():
            yield lambda d, p=path, s=section: d.files[p].sections.pop(s)  # type: ignore[misc]
            for name in elements:
                yield lambda d, p=path, s=section, n=name: d.files[p].sections[s].pop(n)  # type: ignore[misc]
    for path, item in draft.files.items():
        for section, elements in item.sections.items():
            for name, element in elements.items():
                for attribute in element:
                    if attribute != INLINE:
                        yield lambda d, p=path, s=section, n=name, a=attribute: (  # type: ignore[misc]
                            d.files[p].sections[s][n].pop(a)
                        )
    for name in draft.environment:
        yield lambda d, n=name: d.environment.pop(n)  # type: ignore[misc]
