"""Being told that files change, by watchfiles: its watcher runs in a thread of its own, and waits in one of ours.

A folder is watched with all in it. A root can be deleted and come back, and a single file be replaced by its editor: so the
folders above are watched too, by themselves. Only this module knows watchfiles.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

from watchfiles._rust_notify import RustNotify

from orchestrator.errors import HostError, InputError

_STEP_MS, _LONGEST_MS = 20, 60
"""How long nothing must come until what came is told, and the longest that it is kept."""


class Notices:
    """What happened below `folders`, and right in `places`. `fileno` is readable when `take` has something to give. A
    context manager. Raises HostError when the kernel watches no more."""

    def __init__(self, folders: Iterable[str], places: Iterable[str]) -> None:
        self._folders, self._places = sorted(set(folders)), sorted(set(places))
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._error: Exception | None = None
        self._watchers: list[_Watcher] = []
        try:
            self._watchers.append(_Watcher(self._places, False, self._told))
            self._below = _Watcher(self._there(), True, self._told)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Notices:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for watcher in (*self._watchers, *([self._below] if hasattr(self, "_below") else [])):
            watcher.close()
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        return self._reader

    def take(self) -> set[str]:
        """Absolute paths that something happened to."""
        try:
            while os.read(self._reader, 4096):
                pass
        except BlockingIOError:
            pass
        with self._lock:
            taken, self._paths = self._paths, set()
            error, self._error = self._error, None
        if error is not None:
            raise HostError(f"files can no longer be watched: {error}")
        return taken

    def renew(self) -> None:
        """Watch the folders as they are now: one was deleted and made again, and the kernel watched the old one."""
        try:
            below = _Watcher(self._there(), True, self._told)
        except InputError:  # It has gone again: the folder above tells when it is back.
            return
        self._below.close()
        self._below = below

    def _there(self) -> list[str]:
        return [folder for folder in self._folders if os.path.isdir(folder)]

    def _told(self, paths: set[str], error: Exception | None) -> None:
        """In a watcher's thread."""
        with self._lock:
            self._paths |= paths
            self._error = self._error or error
        try:
            os.write(self._writer, b"!")
        except BlockingIOError:
            return  # It is full, and so readable.


class _Watcher:
    def __init__(self, paths: list[str], deep: bool, told: Callable[[set[str], Exception | None], None]) -> None:
        self._stopping = threading.Event()
        self._told = told
        self._thread: threading.Thread | None = None
        if not paths:
            return
        try:
            self._notify = RustNotify(paths, False, False, 0, deep, True)
        except FileNotFoundError as exc:
            raise InputError(f"a folder to watch is not there: {', '.join(paths)}") from exc
        except (OSError, RuntimeError) as exc:
            raise _refused(exc) from exc
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                found = self._notify.watch(_LONGEST_MS, _STEP_MS, 0, self._stopping)
            except RuntimeError as exc:
                if not self._stopping.is_set():
                    self._told(set(), exc)
                return
            if isinstance(found, str):  # It was to stop.
                return
            self._told({path for _, path in found}, None)

    def close(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._notify.close()


def _refused(exc: Exception) -> HostError:
    return HostError(
        f"the kernel does not watch these files: {exc}",
        hint="it may watch no more folders: sysctl fs.inotify.max_user_watches=1048576 (and max_user_instances=1024)",
    )
