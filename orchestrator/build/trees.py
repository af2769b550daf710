"""Where COPY, ADD and mounts take from: the context, another stage, an image, something that was fetched; all as one kind
of tree, looked at from its root alone. Links lead nowhere outside of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from orchestrator.build.ignore import Ignore
from orchestrator.build.patterns import has_wildcards, name_pattern
from orchestrator.compose.text.diagnostics import did_you_mean
from orchestrator.errors import OperationError
from orchestrator.images.unpack.merged import Merged
from orchestrator.values import entity, field, frozen

NOTHING = Ignore()
_NEVER = {stat.S_IFSOCK: "socket"}
_NOT_OF_A_CONTEXT = {**_NEVER, stat.S_IFIFO: "FIFO", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
"""What is left out, and what people call it. A stage may have made FIFOs and devices on purpose."""


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
    what is left out of it. `passed_over`: sentences about what was found and cannot be copied.

    All of it raises OperationError, with the path, for what cannot be read."""

    label: str
    merged: Merged
    lowers: tuple[str, ...]
    local: bool
    identity: str = ""
    ignore: Ignore = NOTHING
    passed_over: dict[str, None] = field(default_factory=dict)

    def matches(self, pattern: str, excluded: Ignore = NOTHING) -> list[Match]:
        """What a source means, sorted. Raises OperationError when there is nothing, unless it has wildcards."""
        path = "/".join(_parts(pattern))
        if not has_wildcards(path):
            match = self._match(path, excluded)
            if match is None:
                raise self._missing(pattern, path)
            if not match.found and (special := self._special(self._look(self._resolve(path)))):
                raise OperationError(f'"{pattern}" in {self.label} is a {special}, which cannot be copied')
            return [match] if match.found else []
        found = [self._match(each, excluded) for each in self._expand(path)]
        return [match for match in found if match is not None and match.found]

    def with_parents(self, pattern: str, excluded: Ignore = NOTHING) -> list[Match]:
        """As COPY --parents wants it: names from the root of the tree, or from ``./`` in the middle of `pattern`. One match
        that is the root itself, with the directories on the way."""
        before, pivot, after = pattern.partition("/./")
        base = "/".join(_parts(before)) if pivot else ""
        rest = "/".join(_parts(after if pivot else before))
        real = self._resolve(base)
        root = self._look(real)
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
                    real = self._resolve(f"{base}/{name}")
                    found[name] = Found(real, name, self._stat(real))
            for each in match.found:
                name = "/".join(part for part in (below, each.name) if part)
                found.setdefault(name, Found(each.path, name, each.stat))
        return [Match("", tuple(found.values()))] if len(found) > 1 or not rest else []

    def open(self, found: Found) -> BinaryIO:
        with self._reading(found.path):
            return self.merged.open(found.path)

    def readlink(self, found: Found) -> bytes:
        with self._reading(found.path):
            return os.fsencode(self.merged.readlink(found.path))

    def xattrs(self, found: Found) -> dict[bytes, bytes]:
        """Those that an image has: of a file of this machine none."""
        real = None if self.local else self.merged.real(found.path)
        if real is None or stat.S_ISLNK(found.stat.st_mode):
            return {}
        with self._reading(found.path):
            names = os.listxattr(real, follow_symlinks=False)
            names = [name for name in names if not name.startswith(("trusted.", "user.overlay."))]
            return {os.fsencode(name): os.getxattr(real, name, follow_symlinks=False) for name in names}

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise self._unreadable(path, exc) from exc

    def _unreadable(self, path: str, exc: OSError) -> OperationError:
        changed = exc.errno in (errno.ENOENT, errno.ESTALE)
        hint = "it was there a moment ago: nothing may change there during a build" if changed else None
        return OperationError(f'cannot read "{path or "/"}" in {self.label}: {exc.strerror}', hint=hint)

    def _resolve(self, path: str) -> str:
        """Where it is, without links. What lies below a file is nowhere, and keeps its name."""
        with self._reading(path):
            try:
                return self.merged.resolve(path).strip("/")
            except NotADirectoryError:
                return path

    def _look(self, path: str) -> os.stat_result | None:
        try:
            return self.merged.stat(path)
        except NotADirectoryError:
            return None
        except OSError as exc:
            raise self._unreadable(path, exc) from exc

    def _names(self, path: str) -> list[str]:
        with self._reading(path):
            return self.merged.listdir(path)

    def _stat(self, path: str) -> os.stat_result:
        found = self._look(path)
        if found is None:
            with self._reading(path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def _special(self, found: os.stat_result | None) -> str:
        """What it is, if that is nothing which could be copied."""
        kinds = _NOT_OF_A_CONTEXT if self.local else _NEVER
        return kinds.get(stat.S_IFMT(found.st_mode), "") if found is not None else ""

    def _match(self, path: str, excluded: Ignore) -> Match | None:
        """None if there is nothing at `path`. A link at its end is followed; those below are taken as links."""
        real = self._resolve(path)
        found = self._look(real)
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
        return Match(name, () if excluded.ignores(name) or self._passes_over(top) else (top,))

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
        for each in self._names(path):
            below = f"{path}/{each}" if path else each
            own = f"{name}/{each}" if name else each
            hidden = self._is_ignored(below) or excluded.ignores(own)
            found = self._look(below)
            if found is not None and (entry := Found(below, own, found)) and (hidden or not self._passes_over(entry)):
                yield entry, hidden

    def _passes_over(self, found: Found) -> bool:
        special = self._special(found.stat)
        if special:
            self.passed_over[f'the {special} "{found.path}" of {self.label} is left out'] = None
        return bool(special)

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
            for each in self._below(self._resolve(path), path, NOTHING) if self.is_directory(path) else ():
                if each.is_directory:
                    yield each.name
        elif not has_wildcards(part):
            yield f"{path}/{part}".strip("/")
        elif self.is_directory(path):
            matching = name_pattern(part)
            for name in self._names(path):
                if matching.fullmatch(name):
                    yield f"{path}/{name}".strip("/")

    def is_directory(self, path: str) -> bool:
        found = self._look(self._resolve(path))
        return found is not None and stat.S_ISDIR(found.st_mode)

    def _missing(self, pattern: str, path: str) -> OperationError:
        message = f'"{pattern}" does not exist in {self.label}'
        real = self._resolve(path)
        if self._look(real) is not None:
            return OperationError(message, hint=f"{self.ignore.name} leaves it out" if self._is_ignored(real) else None)
        nearest, hint = self._nearest(path)
        return OperationError(message + nearest, hint=hint)

    def _nearest(self, path: str) -> tuple[str, str | None]:
        """Where the first name of `path` is that does not exist: what may have been meant, or a hint if it is a link."""
        above = ""
        for name in path.split("/"):
            here = f"{above}/{name}".strip("/")
            if self._look(self._resolve(here)) is None:
                itself = f"{self._resolve(above)}/{name}".strip("/")
                if self._look(itself) is not None:
                    to = self.merged.readlink(itself)
                    return "", f'{here} is a link to "{to}", which leads to nothing in {self.label}'
                names = self._names(above) if self.is_directory(above) else []
                paths = {each: f"{above}/{each}".strip("/") for each in names}
                there = {each: found for each, found in paths.items() if not self._is_ignored(found)}
                return did_you_mean(here, there.values()), None
            above = here
        return "", None


def _parts(path: str) -> list[str]:
    """The names of a path, from the root: what leads out of it stays in it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts
