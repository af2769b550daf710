"""Where COPY, ADD and mounts take from: the context, another stage, an image, something that was fetched; all as one kind
of tree, looked at from its root alone. Links lead nowhere outside of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from orchestrator.build.ignore import Ignore
from orchestrator.build.patterns import has_wildcards, name_pattern
from orchestrator.errors import OperationError
from orchestrator.images.unpack.merged import Merged
from orchestrator.values import entity, frozen

NOTHING = Ignore()


@frozen
class Found:
    """Something in a tree. `path`: where, without links on the way, from the root, without a leading slash. `name`: below
    that which was asked for; "" for that itself."""

    path: str
    name: str
    stat: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)


@frozen
class Match:
    """What one source of a COPY means: a file, or a directory with all below it, parents before children. `name`: what it
    is called if it is put into a directory."""

    name: str
    found: tuple[Found, ...]

    @property
    def is_directory(self) -> bool:
        return self.found[0].is_directory


@entity
class Tree:
    """`label`: for messages: ``the build context``. `local`: files of this machine, whose owners mean nothing in an image.
    `lowers`: what `merged` shows, topmost first. `identity`: names the content, if it cannot change; else "". `ignore`:
    what is left out of it."""

    label: str
    merged: Merged
    lowers: tuple[str, ...]
    local: bool
    identity: str = ""
    ignore: Ignore = NOTHING

    def matches(self, pattern: str, excluded: Ignore = NOTHING) -> list[Match]:
        """What a source means, sorted. Raises OperationError when there is nothing, unless it has wildcards."""
        path = "/".join(_parts(pattern))
        if not has_wildcards(path):
            match = self._match(path, excluded)
            if match is None:
                raise self._missing(pattern, path)
            return [match] if match.found else []
        found = [self._match(each, excluded) for each in self._expand(path)]
        return [match for match in found if match is not None and match.found]

    def with_parents(self, pattern: str, excluded: Ignore = NOTHING) -> list[Match]:
        """As COPY --parents wants it: names from the root of the tree, or from ``./`` in the middle of `pattern`. One match
        that is the root itself, with the directories on the way."""
        before, pivot, after = f"/{pattern.lstrip('/')}".partition("/./")
        base = "/".join(_parts(before)) if pivot else ""
        rest = "/".join(_parts(after if pivot else before))
        real = self.merged.resolve(base).strip("/")
        root = self.merged.stat(real)
        if root is None or not stat.S_ISDIR(root.st_mode):
            raise self._missing(pattern, base)
        whole = f"{base}/{rest}".strip("/")
        paths = list(self._expand(whole)) if has_wildcards(whole) else [whole]
        found: dict[str, Found] = {"": Found(real, "", root)}
        for path in paths:
            match = self._match(path, excluded)
            if match is None:
                if not has_wildcards(whole):
                    raise self._missing(pattern, path)
                continue
            below = path[len(base) :].strip("/")
            steps = below.split("/") if below else []
            for depth in range(1, len(steps)):
                name = "/".join(steps[:depth])
                if name not in found:
                    real = self.merged.resolve(f"{base}/{name}").strip("/")
                    found[name] = Found(real, name, self._stat(real))
            for each in match.found:
                name = "/".join(part for part in (below, each.name) if part)
                found.setdefault(name, Found(each.path, name, each.stat))
        return [Match("", tuple(found.values()))] if len(found) > 1 or not rest else []

    def open(self, found: Found) -> BinaryIO:
        return self.merged.open(found.path)

    def readlink(self, found: Found) -> bytes:
        return os.fsencode(self.merged.readlink(found.path))

    def xattrs(self, found: Found) -> dict[bytes, bytes]:
        """Those that an image has: of a file of this machine none."""
        real = None if self.local else self.merged.real(found.path)
        if real is None or stat.S_ISLNK(found.stat.st_mode):
            return {}
        names = os.listxattr(real, follow_symlinks=False)
        names = [name for name in names if not name.startswith(("trusted.", "user.overlay."))]
        return {os.fsencode(name): os.getxattr(real, name, follow_symlinks=False) for name in names}

    def _stat(self, path: str) -> os.stat_result:
        found = self.merged.stat(path)
        assert found is not None, f"{path} was there a moment ago"
        return found

    def _match(self, path: str, excluded: Ignore) -> Match | None:
        """None if there is nothing at `path`. A link at its end is followed; those below are taken as links."""
        real = self.merged.resolve(path).strip("/")
        found = self.merged.stat(real)
        if found is None:
            return None
        name = path.rpartition("/")[2]
        top = Found(real, "", found)
        if top.is_directory:
            if real and self._is_ignored(real) and next(self._below(real, "", NOTHING), None) is None:
                return None
            return Match(name, (top, *self._below(real, "", excluded)))
        if self._is_ignored(real):
            return None
        return Match(name, () if excluded.ignores(name) else (top,))

    def _below(self, path: str, name: str, excluded: Ignore) -> Iterator[Found]:
        """All below a directory that is not passed over; of one that is, only what the ignore file makes an exception
        of."""
        stack = [iter(self._listing(path, name, excluded))]
        ahead: list[list[Found]] = [[]]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                ahead.pop()
                continue
            found, hidden = entry
            if not hidden:
                for waiting in ahead:
                    yield from waiting
                    waiting.clear()
                yield found
            if found.is_directory and (not hidden or self._may_have_exceptions(found, excluded)):
                stack.append(iter(self._listing(found.path, found.name, excluded)))
                ahead.append([found] if hidden else [])

    def _listing(self, path: str, name: str, excluded: Ignore) -> Iterator[tuple[Found, bool]]:
        for each in self.merged.listdir(path):
            below = f"{path}/{each}" if path else each
            found = self.merged.stat(below)
            if found is None or stat.S_ISSOCK(found.st_mode):
                continue
            own = f"{name}/{each}" if name else each
            hidden = self._is_ignored(below) or excluded.ignores(own)
            yield Found(below, own, found), hidden

    def _is_ignored(self, path: str) -> bool:
        return self.ignore.ignores(path)

    def _may_have_exceptions(self, found: Found, excluded: Ignore) -> bool:
        return self.ignore.has_exceptions_below(found.path) or excluded.has_exceptions_below(found.name)

    def _expand(self, pattern: str) -> Iterator[str]:
        """The paths that `pattern` matches, sorted; ``**`` is any number of directories."""
        parts = pattern.split("/")
        paths = [""]
        for part in parts:
            paths = list(dict.fromkeys(found for path in paths for found in self._step(path, part)))
        yield from sorted(paths)

    def _step(self, path: str, part: str) -> Iterator[str]:
        if part == "**":
            yield path
            for each in self._below(self.merged.resolve(path).strip("/"), path, NOTHING) if self.is_directory(path) else ():
                if each.is_directory:
                    yield each.name
        elif not has_wildcards(part):
            yield f"{path}/{part}".strip("/")
        elif self.is_directory(path):
            matching = name_pattern(part)
            for name in self.merged.listdir(path):
                if matching.fullmatch(name):
                    yield f"{path}/{name}".strip("/")

    def is_directory(self, path: str) -> bool:
        found = self.merged.stat(self.merged.resolve(path))
        return found is not None and stat.S_ISDIR(found.st_mode)

    def _missing(self, pattern: str, path: str) -> OperationError:
        hidden = self.merged.stat(self.merged.resolve(path)) is not None
        hint = f"{self.ignore.name} leaves it out" if hidden and self.ignore else None
        return OperationError(f'"{pattern}" does not exist in {self.label}', hint=hint)


def _parts(path: str) -> list[str]:
    """The names of a path, from the root: what leads out of it stays in it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts
