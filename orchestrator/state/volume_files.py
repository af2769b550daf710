"""The volumes of a data directory: ``DATA/volumes/NAME/``, whoever made them.

``_data`` is the content, ``volume.json`` says whose it is (`About`, one sealed line). A volume is made beside its place and
renamed, and removed the other way round: it is there whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from orchestrator.errors import HostError, InputError, access_hint
from orchestrator.kernel.atomic import keep_aside, replace_file
from orchestrator.kernel.sealed import VERSION, seal, unseal_file, version_of
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import short_hash
from orchestrator.state.preparation import data_lock, make_private
from orchestrator.state.versions import upgraded
from orchestrator.values import field, frozen, replace

_ABOUT = "volume.json"
_NEW = ".new-"
_MOST_CHARACTERS = 200
ANONYMOUS = "anonymous-"
"""Names that begin so are ours to give."""


@frozen
class About:
    """``volume.json``. `identity`: random, made with the volume. `key`, `project`: who made it; `volume`: its key in the
    stack. `container`, `target`: of an anonymous one. `options`: ``driver_opts``. `made_s`: epoch seconds, for display."""

    identity: str = ""
    project: str = ""
    key: str = ""
    volume: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    container: str = ""
    target: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    made_s: float = 0.0


def check_name(name: str) -> None:
    """Raises InputError for what the user may not call a volume."""
    plain = name.replace("_", "a").replace(".", "a").replace("-", "a")
    if not (name[:1].isalnum() and plain.isalnum() and name.isascii() and len(name) <= _MOST_CHARACTERS):
        raise InputError(
            f'"{name}" is not a volume name', hint="letters, digits, '_', '.' and '-', a letter or digit first"
        )
    if name.startswith(ANONYMOUS):
        raise InputError(f'"{name}" is not a volume name', hint=f'names that begin with "{ANONYMOUS}" are given by pystack')


class VolumeFiles:
    def __init__(self, data_root: str) -> None:
        self.data_root = data_root
        self.root = os.path.join(data_root, "volumes")

    def names(self) -> list[str]:
        """All volumes of the data directory, sorted."""
        try:
            return sorted(name for name in os.listdir(self.root) if not name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise HostError(f"cannot read {self.root}: {exc.strerror}", hint=access_hint(exc)) from exc

    def path(self, name: str) -> str:
        return os.path.dirname(self.data(name))

    def data(self, name: str) -> str:
        """Where its content is. Raises InputError for what is no name."""
        if not name or "/" in name or name.startswith("."):
            raise InputError(f"{name!r} is not a volume name", hint="letters, digits, '_', '.' and '-'")
        return os.path.join(self.root, name, "_data")

    def exists(self, name: str) -> bool:
        return os.path.isdir(self.data(name))

    def about(self, name: str) -> About | None:
        """What is written of the volume; None if that is missing or damaged."""
        path = os.path.join(self.root, name, _ABOUT)
        try:
            data = unseal_file(path)
            return None if data is None else from_json(About, upgraded("volume", data, version_of(data)))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise HostError(f"cannot read {path}: {exc.strerror}", hint=access_hint(exc)) from exc
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def made_s(self, name: str, about: About | None) -> float:
        """When it was made, as far as that is known; epoch seconds."""
        if about is not None and about.made_s:
            return about.made_s
        try:
            return os.stat(self.path(name)).st_mtime
        except FileNotFoundError:
            return 0.0

    def ensure(self, name: str, about: About) -> str:
        """The directory of the volume, made if it is missing. What an old or damaged description lacks is written."""
        data = self.data(name)
        if os.path.isdir(data):
            known = self.about(name)
            if known is None or not known.identity:
                with data_lock(self.data_root):
                    self.complete(name, known, about)
            return data
        for path in (self.data_root, self.root):
            make_private(path)
        with data_lock(self.data_root):
            if os.path.isdir(data):
                return data
            try:
                self._make(name, replace(about, identity=os.urandom(16).hex(), made_s=time.time()))
            except OSError as exc:
                with suppress(OSError):
                    self._remove_half_made()
                raise HostError(f"cannot make volume {name!r}: {exc.strerror}", hint="is the disk full?") from exc
        return data

    def _make(self, name: str, about: About) -> None:
        self._remove_half_made()
        beside = os.path.join(self.root, f"{_NEW}{name}")
        os.mkdir(beside, 0o700)
        replace_file(os.path.join(beside, _ABOUT), _sealed(about))
        os.mkdir(os.path.join(beside, "_data"), 0o755)
        # A directory without `_data` is what version 1 left when it was killed here; one with anything else is not ours.
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.root, name, _ABOUT))
        with suppress(FileNotFoundError):
            os.rmdir(os.path.join(self.root, name))
        os.rename(beside, os.path.join(self.root, name))

    def tidy(self) -> None:
        """Take away what was half made when its maker was killed; what cannot be taken away now, the next one will."""
        with suppress(OSError):
            if any(entry.startswith(_NEW) for entry in os.listdir(self.root)):
                with data_lock(self.data_root):
                    self._remove_half_made()

    def _remove_half_made(self) -> None:
        """Of whoever was killed: volumes are made by who holds `data_lock`, as we do."""
        for entry in os.listdir(self.root):
            if entry.startswith(_NEW):
                remove_tree(os.path.join(self.root, entry))

    def complete(self, name: str, known: About | None, about: About) -> None:
        """Write `about`, with what is `known` of its labels and a lasting identity."""
        path = os.path.join(self.root, name, _ABOUT)
        about = about if known is None else replace(about, labels=known.labels, options=known.options)
        try:
            if known is None and os.path.lexists(path):
                keep_aside(path)
            replace_file(path, _sealed(replace(about, identity=self.old_identity(name))))
        except OSError as exc:
            raise HostError(f"cannot write {path}: {exc.strerror}") from exc

    def old_identity(self, name: str) -> str:
        """Of a volume whose own is not written: the same each time, until there is one."""
        return short_hash(f"{name}\0{os.stat(self.data(name)).st_ino}", 32)

    def provide(self, name: str, about: About | None = None) -> str:
        """The directory with its content, mounted if it has options (`volume_mounts`). Blocking then."""
        known = about or self.about(name)
        options = known.options if known is not None else {}
        if not options:
            return self.data(name)
        from orchestrator.state import volume_mounts  # Few have any, and it imports `subprocess`.

        with self._held(name):
            return volume_mounts.provide(name, options, self.data(name))

    def is_mounted(self, name: str) -> bool:
        return os.path.ismount(self.data(name))

    def release(self, name: str) -> None:
        """Unmount it, if it is mounted. Raises OperationError."""
        if self.is_mounted(name):
            from orchestrator.state import volume_mounts

            with self._held(name):
                volume_mounts.release(name, self.data(name))

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        """By one process at a time. (Not `data_lock`: a server may let us wait.)"""
        try:
            fd = os.open(self.path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise HostError(f"cannot open volume {name!r}: {exc.strerror}") from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def bytes_of(self, name: str) -> int:
        """What its content takes on the disk, without what is mounted over it."""
        total, seen = 0, set()
        todo = [] if self.is_mounted(name) else [self.data(name)]
        while todo:
            with suppress(OSError), os.scandir(todo.pop()) as entries:  # Too deep a path is not worth more.
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if found.st_ino in seen:
                            continue
                        seen.add(found.st_ino)
                    total += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        return total

    def delete(self, name: str) -> bool:
        """False if there was none. What is mounted is unmounted; a bound directory stays as it is."""
        path = self.path(name)
        trash = os.path.join(self.root, f".trash-{name}")
        self.release(name)
        try:
            remove_tree(trash)  # Of one that was killed here, and whose volume is gone by its name already.
            os.rename(path, trash)
        except FileNotFoundError:
            return False
        try:
            remove_tree(trash)
        except OSError as exc:
            raise HostError(f"cannot delete volume {name!r}: {exc.strerror} ({exc.filename})") from exc
        return True


def _sealed(about: About) -> bytes:
    return seal({"version": VERSION} | to_json(about))
