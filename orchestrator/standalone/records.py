"""What is known of containers: one directory each, below ``--root``.

``ROOT/ID/`` is the claim to the id. ``state.json`` is there before anything else is made; ``start.sock`` is where the
container's first process waits for `start`, and nobody listens there once it has begun; ``config.json`` is the config as it
was at `create`.
"""

from __future__ import annotations

import errno
import os
import stat

from orchestrator.errors import InputError, OperationError
from orchestrator.kernel import pidfd
from orchestrator.kernel.jsontext import dumps, loads
from orchestrator.values import entity, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any
else:  # Both would make enumerations of all that they have
    import _socket as socket

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"
SOCKET = "start.sock"
NOTIFY = "notify"
_STATE = "state.json"
_CONFIG = "config.json"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_MOST_NAME = 1024


@entity
class Record:
    """`pid` 0: not born. `start_ticks`: with `pid` and `boot`, which process that is. `cgroup`: relative path, "": none."""

    id: str
    bundle: str
    rootfs: str = ""
    pid: int = 0
    start_ticks: int = 0
    boot: str = ""
    created: str = ""
    oci_version: str = "1.0.0"
    cgroup: str = ""
    owner: int = 0
    made: bool = False
    """`create` came to its end."""
    creator: int = 0
    creator_ticks: int = 0
    """Which process `create` is."""
    annotations: dict[str, str] = field(default_factory=dict)


_FIELDS = (
    "id", "bundle", "rootfs", "pid", "start_ticks", "boot", "created", "oci_version", "cgroup", "owner", "made",
    "creator", "creator_ticks", "annotations",
)  # fmt: skip


class StateRoot:
    """The directory ``--root``."""

    def __init__(self, root: str) -> None:
        self.root = root

    def claim(self, name: str) -> None:
        """Raises InputError for what is no id, OperationError for one that is taken."""
        check_name(name)
        os.makedirs(self.root, 0o700, exist_ok=True)
        try:
            os.mkdir(self.path(name), 0o700)
        except FileExistsError:
            hint = f"`pystack-oci delete {name}` removes it"
            raise OperationError(f"container with given ID already exists: {name}", hint=hint) from None

    def path(self, name: str, *more: str) -> str:
        return os.path.join(self.root, name, *more)

    def names(self) -> list[str]:
        try:
            with os.scandir(self.root) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def write(self, record: Record) -> None:
        """Whole or not at all; a reboot ends every container anyway, so nothing is synced."""
        text = dumps({name: getattr(record, name) for name in _FIELDS})
        self._replace(self.path(record.id, _STATE), text)

    def read(self, name: str) -> Record:
        """Raises OperationError when there is no such container. One whose `create` was killed early is an empty record."""
        check_name(name)
        if not os.path.isdir(self.path(name)):
            raise OperationError(f"container does not exist: {name}")
        try:
            with open(self.path(name, _STATE), encoding="utf-8") as file:
                values = loads(file.read())
        except FileNotFoundError:
            return Record(name, "")
        except ValueError as exc:
            raise OperationError(f"{self.path(name, _STATE)} is damaged: {exc}") from exc
        return Record(**{key: value for key, value in values.items() if key in _FIELDS})

    def write_config(self, name: str, config: dict[str, Any]) -> None:
        self._replace(self.path(name, _CONFIG), dumps(config))

    def read_config(self, name: str) -> dict[str, Any]:
        try:
            with open(self.path(name, _CONFIG), encoding="utf-8") as file:
                return dict(loads(file.read()))
        except (OSError, ValueError):
            return {}

    def remove(self, name: str) -> None:
        """All that was ever written here; a name in it that is not ours stays, and is an error (ENOTEMPTY)."""
        for entry in (SOCKET, _CONFIG, f"{_CONFIG}.new", f"{_STATE}.new", _STATE):
            try:
                os.unlink(self.path(name, entry))
            except FileNotFoundError:
                continue
        self._remove_notify(self.path(name, NOTIFY))
        os.rmdir(self.path(name))

    def _remove_notify(self, place: str) -> None:
        try:
            os.rmdir(place)
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno != errno.ENOTEMPTY:
                raise
            os.unlink(os.path.join(place, NOTIFY))
            os.rmdir(place)

    def connect(self, name: str) -> socket.socket | None:
        """To the first process, that waits for `start`; None: it does not wait."""
        return _reach(self.path(name), SOCKET)

    def _replace(self, path: str, text: str) -> None:
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
        os.rename(f"{path}.new", path)


def check_name(name: str) -> None:
    hint = "letters, digits, and any of _ + - ."
    for letter in name:
        if letter not in _NAME:
            raise InputError(f"invalid container ID format: invalid character `{letter}` in the ID {name!r}", hint=hint)
    if not name or name in (".", "..") or len(name) > _MOST_NAME:
        raise InputError(f"invalid container ID format: {name!r}", hint=hint)


def listen(directory: str) -> socket.socket:
    """By way of the directory's descriptor: a path of a socket has at most 107 bytes."""
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{SOCKET}")
    finally:
        os.close(folder)
    listener.listen(8)
    return listener


def _reach(directory: str, name: str) -> socket.socket | None:
    try:
        folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{name}")
    except OSError as exc:
        sock.close()
        if exc.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return None
        raise
    finally:
        os.close(folder)
    return sock


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().decode().strip()


def open_process(record: Record) -> int | None:
    """A pidfd of the container's first process; None once it has ended (a zombie has ended)."""
    if record.pid <= 0 or record.boot != boot_id():
        return None
    try:
        fd = os.pidfd_open(record.pid)
    except OSError:
        return None
    if pidfd.start_time(record.pid) != record.start_ticks or is_zombie(record.pid):
        os.close(fd)
        return None
    return fd


def is_being_made(record: Record) -> bool:
    """Its `create` is still at it."""
    return (
        not record.made
        and record.creator > 0
        and record.boot == boot_id()
        and pidfd.start_time(record.creator) == record.creator_ticks
        and not is_zombie(record.creator)
    )


def is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):
        return True


def read_terminal_socket(path: str) -> socket.socket:
    """The ``--console-socket``, connected. Raises InputError."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise InputError(f"--console-socket {path} is not a socket")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        folder, name = os.path.split(path)
        above = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{above}/{name}")
        finally:
            os.close(above)
    except OSError as exc:
        raise InputError(f"cannot connect to --console-socket {path}: {exc.strerror}") from exc
    return sock
