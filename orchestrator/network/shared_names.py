"""The names that projects have on a network that they share: ``names/PROJECT.json`` in its directory.

    {"check": ..., "version": 2, "containers": [{"container", "veth", "addresses", "names", "ready"}, ...]}

Each project's supervisor writes what of its own is attached, and reads the others' files when it is asked for a name.
A rename into the directory changes the directory's own time, so one stat(2) tells whether there is anything new.

A supervisor that was killed cannot say that its containers are gone. So a container counts only while its interface is
there: `veth`, the host's end of its pair, which goes with the container's network namespace.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from orchestrator.errors import HostError
from orchestrator.kernel.atomic import replace_file
from orchestrator.kernel.sealed import VERSION, seal, unseal_file, version_of
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import ContainerId
from orchestrator.model.subnets import IPNetwork
from orchestrator.network.zones import Zone
from orchestrator.values import frozen

_SUFFIX = ".json"
_LOOK_S = 1.0
"""How often it is looked whether containers are still there."""


@frozen
class Named:
    """A container as other projects know it on one network. `ready`: see `Networking.set_ready`."""

    container: ContainerId
    veth: str
    addresses: tuple[str, ...]
    names: tuple[str, ...]
    ready: bool = True


def write_names(directory: str, project: str, containers: Sequence[Named]) -> None:
    """What `project` has; no file if that is nothing. Raises HostError."""
    path = os.path.join(directory, project + _SUFFIX)
    try:
        if not containers:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        os.makedirs(directory, mode=0o700, exist_ok=True)
        data = {"version": VERSION, "containers": [to_json(item) for item in containers]}
        replace_file(path, seal(data), durable=False)
    except OSError as exc:
        raise HostError(f"cannot write {path}: {exc.strerror}") from exc


def read_names(path: str) -> tuple[Named, ...]:
    """Nothing of a file that cannot be read: its owner writes it again with the next change."""
    try:
        data = unseal_file(path)
        if data is None or version_of(data) > VERSION:
            return ()
        return tuple(from_json(Named, item) for item in data["containers"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def forget_gone(directory: str, projects: str) -> None:
    """Remove what projects have told that are not in `projects` any more: nobody else would."""
    with suppress(OSError):
        for file in os.listdir(directory):
            if not os.path.isdir(os.path.join(projects, file.removesuffix(_SUFFIX))):
                os.unlink(os.path.join(directory, file))


class Neighbours:
    """What the other projects have on one network, as a zone. `look` is called with the lock of `ProjectNames` held."""

    def __init__(
        self,
        directory: str,
        project: str,
        subnets: Iterable[IPNetwork],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._own = project + _SUFFIX
        self._clock = clock
        self._unready: set[ContainerId] = set()
        self._changed_ns = -1
        self._files: dict[str, tuple[tuple[int, int], tuple[Named, ...]]] = {}
        self._there: dict[ContainerId, bool] = {}
        self._looked_s = clock() - _LOOK_S
        self.zone = Zone(tuple(subnets), unready=self._unready)

    def look(self) -> bool:
        """Whether anything has changed."""
        read = self._read()
        now = self._clock()
        if not read and now - self._looked_s < _LOOK_S:
            return False
        self._looked_s = now
        there = {ContainerId(key): is_there(item) for key, item in self._every()}
        if not read and there == self._there:
            return False
        self._there = there
        self._fill()
        return True

    def _read(self) -> bool:
        try:
            changed_ns = os.stat(self._directory).st_mtime_ns
        except OSError:
            changed_ns = 0
        if changed_ns == self._changed_ns:
            return False
        # What changes while we read has another time, or the same within a tick of the kernel's clock: read again then.
        self._changed_ns = changed_ns if time.time_ns() - changed_ns > 20_000_000 else -1
        found = {}
        with suppress(OSError):
            for entry in os.scandir(self._directory):
                if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".") and entry.name != self._own:
                    info = entry.stat(follow_symlinks=False)
                    version = (info.st_ino, info.st_mtime_ns)
                    known = self._files.get(entry.name)
                    found[entry.name] = known if known and known[0] == version else (version, read_names(entry.path))
        changed = found != self._files
        self._files = found
        return changed

    def _every(self) -> Iterable[tuple[str, Named]]:
        """By project and container: names of containers are unique within a project only."""
        for file, (_, containers) in self._files.items():
            for item in containers:
                yield f"{file[: -len(_SUFFIX)]}/{item.container}", item

    def _fill(self) -> None:
        self.zone.clear()
        self._unready.clear()
        for key, item in self._every():
            container = ContainerId(key)
            if self._there[container]:
                self.zone.add(container, item.addresses, item.names)
                self.zone.called[container] = item.container
                if not item.ready:
                    self._unready.add(container)


def is_there(item: Named) -> bool:
    try:
        socket.if_nametoindex(item.veth)
    except OSError:
        return False
    return True
