"""Being told that files change: inotify(7), for a folder with all in it.

The kernel watches single folders, and tells of a new one what happens in it from the moment that it is watched. So:

* A folder is watched first and read then. Whoever looks at a folder after `take` told of it sees all that was in it before
  the kernel watched it, and is told of all that comes later.
* A folder that came is watched with all that is in it by now; one that was moved away is watched no more, and under its new
  name if that is ours too. What no rule enters (``node_modules``) is not watched.
* A queue that was full has dropped events (IN_Q_OVERFLOW), among them perhaps that of a new folder, in which all would go
  unheard. Everything is watched anew then, and told of.
* A root may be deleted and come back, as may the folders above it: the nearest one above that is there is watched too,
  and the others above that for being moved.
"""

from __future__ import annotations

import bisect
import errno
import os
from collections.abc import Callable, Iterable, Iterator

from orchestrator.errors import HostError
from orchestrator.kernel import constants as c
from orchestrator.kernel.inotify import Inotify
from orchestrator.values import frozen

_GONE = c.IN_MOVE_SELF | c.IN_IGNORED
"""What is told of a folder itself: it is no longer where it was watched."""
_NAMES = c.IN_CREATE | c.IN_MOVED_TO | c.IN_DELETE | c.IN_MOVED_FROM | c.IN_MOVE_SELF
_FILES = _NAMES | c.IN_MODIFY | c.IN_CLOSE_WRITE | c.IN_ATTRIB
_HOW = c.IN_ONLYDIR | c.IN_EXCL_UNLINK | c.IN_MASK_ADD
"""A folder may be watched for two reasons."""
_AFTER_SLASH = chr(ord("/") + 1)
_EXHAUSTED = frozenset({errno.ENOSPC, errno.ENOMEM})
"""The kernel has no more watches for us. All else is about the folder: it is not there, or its file system is dead."""


@frozen
class Root:
    """`path`: absolute, without links on the way. `enters`: whether a folder in it is watched, by its path from there."""

    path: str
    enters: Callable[[str], bool]

    def entered(self, path: str) -> bool:
        return path == self.path or self.enters(path[len(self.path.rstrip("/")) + 1 :])


class Notices:
    """What happens in `roots`. `fileno` is readable when `take` has something to give. A context manager. Raises HostError
    when the kernel watches no more."""

    def __init__(self, roots: Iterable[Root]) -> None:
        self._roots = tuple(roots)
        self._inotify = _instance()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self._paths: dict[int, set[str]] = {}
        """Of each watch: mostly one; two of a folder that was moved while we did not hear of it."""
        self._numbers: dict[str, int] = {}
        self._sorted: list[str] = []
        """Their paths: what is in a folder is one piece of it."""
        for root in self._roots:
            self._follow(root)

    def __enter__(self) -> Notices:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._inotify.close()

    def fileno(self) -> int:
        return self._inotify.fileno()

    def take(self) -> set[str]:
        """Absolute paths that something happened to: of a folder, perhaps to anything in it. Raises HostError."""
        found: set[str] = set()
        events = self._inotify.events()
        if any(mask & c.IN_Q_OVERFLOW for _, mask, _ in events):
            self._inotify.close()
            self._inotify = _instance()
            self._begin()
            return {root.path for root in self._roots}
        for number, mask, name in events:
            for path in tuple(self._paths.get(number, ())):
                found |= self._event(path, mask, name)
        return found

    def _event(self, path: str, mask: int, name: str) -> set[str]:
        at = f"{path.rstrip('/')}/{name}" if name else path
        if mask & _GONE or (mask & c.IN_MOVED_FROM and mask & c.IN_ISDIR):
            self._leave(at)
        if not mask & (_GONE | _NAMES):
            return {at}
        if mask & (c.IN_ISDIR | _GONE) and not mask & c.IN_DELETE:
            for root in self._roots:
                if _is_in(at, root.path):
                    self._walk(root, at)
        return {at, *self._found(at)}

    def _found(self, path: str) -> set[str]:
        """Roots that are at `path` or in it, which came or went; they are watched as they are now."""
        roots = [root for root in self._roots if root.path == path or _is_in(root.path, path)]
        for root in roots:
            self._follow(root)
        return {root.path for root in roots}

    def _follow(self, root: Root) -> None:
        """Watch `root` with all in it, and the nearest folder above it that is there, which tells of the next one. Of those
        above that only whether they are moved, which takes `root` along unheard."""
        above = list(_above(root.path))
        for at, path in enumerate(above):
            if self._add(path, _NAMES):
                while at and self._add(above[at - 1], _NAMES):  # It has come meanwhile.
                    at -= 1
                for further in above[at + 1 :]:
                    self._add(further, c.IN_MOVE_SELF)
                break
        self._walk(root, root.path)

    def _walk(self, root: Root, top: str) -> None:
        todo = [top]
        while todo:
            path = todo.pop()
            inner = c.IN_DONT_FOLLOW if path != root.path else 0
            if not root.entered(path) or not self._add(path, _FILES | inner):
                continue
            try:
                with os.scandir(path) as entries:
                    todo += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:  # It went, or is not ours to read: nothing of it is looked at either.
                continue

    def _add(self, path: str, mask: int) -> bool:
        """Whether there is such a folder. Raises HostError."""
        try:
            number = self._inotify.watch(path, mask | _HOW)
        except OSError as exc:
            if exc.errno in _EXHAUSTED:
                raise _refused(exc) from exc
            return False
        if self._numbers.get(path) != number:
            self._drop(path)
            self._numbers[path] = number
            bisect.insort(self._sorted, path)
        self._paths.setdefault(number, set()).add(path)
        return True

    def _leave(self, top: str) -> None:
        """It is not there any more, with all in it."""
        self._drop(top)
        first, last = (bisect.bisect_left(self._sorted, f"{top.rstrip('/')}{end}") for end in ("/", _AFTER_SLASH))
        for path in self._sorted[first:last]:
            self._drop(path)

    def _drop(self, path: str) -> None:
        number = self._numbers.pop(path, None)
        if number is None:
            return
        del self._sorted[bisect.bisect_left(self._sorted, path)]
        paths = self._paths[number]
        paths.discard(path)
        if not paths:
            del self._paths[number]
            self._inotify.forget(number)


def _above(path: str) -> Iterator[str]:
    while path != (path := os.path.dirname(path)):
        yield path


def _is_in(path: str, folder: str) -> bool:
    return path.startswith(folder if folder == "/" else f"{folder}/") and path != folder


def _instance() -> Inotify:
    try:
        return Inotify()
    except OSError as exc:
        raise _refused(exc) from exc


def _refused(exc: OSError) -> HostError:
    return HostError(
        f"the kernel does not watch these files: {exc.strerror}",
        hint="it may watch no more folders: sysctl fs.inotify.max_user_watches=1048576 (and max_user_instances=1024)",
    )
