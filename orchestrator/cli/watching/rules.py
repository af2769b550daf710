"""Which paths a rule of ``develop.watch`` is about. Pure: paths are text, relative to what is looked at.

What is ignored: what the build context's ignore file leaves out, what the rule's `ignore` says, ``.git``, and what editors
leave beside a file while they save it. A pattern that matches a folder matches all in it, unless one with ``!`` follows.
Source: compose-spec, develop.md.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from orchestrator.build.ignore import Ignore, parse_ignore, parse_pattern
from orchestrator.errors import InputError
from orchestrator.model.watch import WatchRule
from orchestrator.values import frozen

_EVERYTHING = "*"
_TEMPORARY = (
    "**/.git",
    "**/.*.sw[nopx]", "**/4913", "**/*~",  # Vim
    "**/.#*", "**/#*#",  # Emacs
    "**/*___jb_tmp___", "**/*___jb_old___", "**/.idea",  # JetBrains
    "**/.*.kate-swp", "**/.goutputstream-*",  # KDE, GNOME
)  # fmt: skip
OF_EDITORS = Ignore(map(parse_pattern, _TEMPORARY))


@frozen
class Ground:
    """Where a rule looks. `root`: a directory, absolute and without links on the way. `only`: the name of the one file in
    it that the rule is about, "" for all. `context`: the folder that the service is built from, likewise, "" for none."""

    root: str
    only: str = ""
    context: str = ""


class Filter:
    """Which paths below `ground.root` a rule is about. `of_context`: the build context's ignore file."""

    def __init__(self, ground: Ground, ignore: Ignore, include: Ignore | None, of_context: Ignore) -> None:
        self._only = ground.only
        self._ignore, self._include, self._of_context = ignore, include, of_context
        self._inner, self._outer = _shift(ground) if of_context else (None, "")

    def meant(self, path: str) -> bool:
        """Whether a change of `path` is one for the rule."""
        if self._only:
            return path == self._only
        return not self._ignores(path) and (self._include is None or self._include.ignores(path))

    def enters(self, directory: str) -> bool:
        """Whether there may be something in `directory` that the rule is about."""
        if self._only:
            return not directory
        if not self._ignores(directory):
            return True
        inside = self._in_context(directory)
        return (
            not OF_EDITORS.ignores(directory)
            and (not self._ignore.ignores(directory) or self._ignore.has_exceptions_below(directory))
            and (inside is None or not self._of_context.ignores(inside) or self._of_context.has_exceptions_below(inside))
        )

    def _ignores(self, path: str) -> bool:
        if not path:
            return False
        if OF_EDITORS.ignores(path) or self._ignore.ignores(path):
            return True
        inside = self._in_context(path)
        return inside is not None and self._of_context.ignores(inside)

    def _in_context(self, path: str) -> str | None:
        """`path` from the root of the build context; None if it is not in there."""
        if self._inner is None:
            return None
        if self._outer:
            return path[len(self._outer) :] if path.startswith(self._outer) else None
        return self._inner + path


def _shift(ground: Ground) -> tuple[str | None, str]:
    """(what to put before a path to have it from the context's root, or None; what to take away instead)."""
    if not ground.context:
        return None, ""
    root, context = (f"{path.rstrip('/')}/" for path in (ground.root, ground.context))
    if root.startswith(context):
        return root[len(context) :], ""
    if context.startswith(root):
        return "", context[len(root) :]
    return None, ""


def filter_of(rule: WatchRule, ground: Ground, ignore_text: str = "", ignore_name: str = "") -> Filter:
    """`ignore_text`: of the build context's ignore file. Raises InputError that names the rule's compose path, or the
    file's line."""
    ignore = _patterns(rule.ignore, f"{rule.place}.ignore")
    include = _patterns(rule.include, f"{rule.place}.include", everything=True) if rule.include else None
    return Filter(ground, ignore, include, parse_ignore(_without_everything(ignore_text), ignore_name))


def _without_everything(text: str) -> str:
    """An ignore file that begins by leaving out everything says with ``!`` what is in the image: for who watches, nothing
    is left out then, as Docker Compose has it."""
    lines = text.split("\n")
    if not any(line.strip() == _EVERYTHING for line in lines):
        return text
    return "\n".join(line if line.lstrip().startswith("!") else "" for line in lines)


def _patterns(texts: Iterable[str], place: str, *, everything: bool = False) -> Ignore:
    found = []
    every = list(texts)
    if not everything and _EVERYTHING in every:
        every = [text for text in every if text.startswith("!")]
    for text in every:
        if not text.strip():
            continue
        try:
            found.append(parse_pattern(text))
        except ValueError as exc:
            raise InputError(f'"{text}" is no pattern: {exc}', place=place) from exc
    return Ignore(found)


def target_of(rule: WatchRule, ground: Ground, path: str) -> tuple[str, str]:
    """Where `path` goes in the container: the folder that the stack names, and the path below it."""
    target = posixpath.normpath("/" + rule.target.lstrip("/"))
    if ground.only:
        return posixpath.split(target)
    return target, path
