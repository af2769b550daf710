"""Being told that files change, by watchfiles: its watcher runs in a thread of its own, and waits in one of ours.

A folder is watched with all in it. A root can be deleted and come back, and a single file be replaced by its editor: so the
folders above are watched too, by themselves. Only this module knows watchfiles, and its `watch` alone: the asynchronous
one would want an event loop around everything else that is waited for, and waits in a thread all the same.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

import watchfiles

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
    """Raises what is wrong with `paths`; else they are watched when it is made."""

    def __init__(self, paths: list[str], deep: bool, told: Callable[[set[str], Exception | None], None]) -> None:
        self._paths, self._deep, self._told = paths, deep, told
        self._stop = _Stop()
        self._refusal: Exception | None = None
        self._thread: threading.Thread | None = None
        if not paths:
            return
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        self._stop.begun.wait()
        match self._refusal:
            case None:
                return
            case FileNotFoundError() as exc:
                raise InputError(f"a folder to watch is not there: {', '.join(paths)}") from exc
            case exc:
                raise _refused(exc) from exc

    def _run(self) -> None:
        try:
            for found in watchfiles.watch(
                *self._paths,
                watch_filter=None,
                debounce=_LONGEST_MS,
                step=_STEP_MS,
                rust_timeout=0,
                stop_event=self._stop,
                debug=False,
                raise_interrupt=False,
                force_polling=False,
                recursive=self._deep,
                ignore_permission_denied=True,
            ):
                self._told({path for _, path in found}, None)
        except (OSError, RuntimeError) as exc:
            if not self._stop.begun.is_set():
                self._refusal = exc
            elif not self._stop.wanted:
                self._told(set(), exc)
        finally:
            self._stop.begun.set()

    def close(self) -> None:
        self._stop.wanted = True
        if self._thread is not None:
            self._thread.join()


class _Stop:
    """What watchfiles asks, each time that it has looked for events, whether it is to end. So it has begun with the first
    time, which is the only sign of that: its generator makes the watch when it is waited for."""

    def __init__(self) -> None:
        self.wanted = False
        self.begun = threading.Event()

    def is_set(self) -> bool:
        self.begun.set()
        return self.wanted


def _refused(exc: Exception) -> HostError:
    return HostError(
        f"the kernel does not watch these files: {exc}",
        hint="it may watch no more folders: sysctl fs.inotify.max_user_watches=1048576 (and max_user_instances=1024)",
    )
