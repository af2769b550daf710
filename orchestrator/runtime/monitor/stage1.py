"""The first of the two processes of a program: root of the host, in the monitor's own mount namespace or the host's.

`enter` (or `join`, for exec) makes the final child (`final`) and ends this one.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import struct

from orchestrator.kernel import constants as c
from orchestrator.kernel import limits, mounts, process
from orchestrator.kernel.rooted import BELOW, IN_ROOT
from orchestrator.kernel.suppress import suppress
from orchestrator.kernel.syscalls import openat2
from orchestrator.runtime.monitor import parts as part_by_part
from orchestrator.runtime.monitor.mount_namespace import MountNamespaces

REPORT = struct.Struct("<ii")
"""The step that failed, and its errno."""
WORD = -2
"""Instead of the step: what follows are four bytes of text."""
WARNING = -3
"""Instead of the step: the text until here is no failure; the step that it is about follows."""
_WORD = struct.Struct("<i4s")
EXECUTING = -4
"""Instead of the step: all is done but the execve. Without this word and without a failure the process was killed."""
READY = -5
"""Instead of the step: all is done, and the execve waits at the gate."""
CANNOT = -6
"""Instead of the step: the starter's processes cannot do it, whatever the reason; those of here may, or say why."""
FILES_SOURCE = b"pystack-files"
"""The "device" of the tmpfs that generated files are in where they are read-only: nobody in a container can give this name
to a file system of the host's."""
BROKEN = -1
"""The step number of a failure that no step has: a bug, or a stage 1 that was killed."""

DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
DEV_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
DEV_FOLDERS = ("pts", "shm", "mqueue")
NAMESPACES = (
    c.CLONE_NEWUSER | c.CLONE_NEWNS | c.CLONE_NEWPID | c.CLONE_NEWUTS | c.CLONE_NEWIPC | c.CLONE_NEWNET | c.CLONE_NEWCGROUP
)

_CANNOT_BE_MAPPED = (errno.EINVAL, errno.EPERM)
"""What mount_setattr(2) says of a file system whose ids cannot be, and of a mount whose ids are already."""


class Stage1:
    """`status`: the pipe for reports. `fds`: named descriptors. `procs`: files of v1 cgroups (`tasks`) to enter. `born`:
    where the final child's pid is told; None when we are it from the beginning."""

    def __init__(
        self,
        status: int,
        fds: dict[str, int],
        procs: list[int],
        namespaces: MountNamespaces,
        born: process.SharedPid | None,
    ) -> None:
        self.status = status
        self.born = born
        self.fds = fds
        self.procs = procs
        self.namespaces = namespaces
        self.slots: dict[int, int] = {}
        self.owners: dict[int, int] = {}
        self.step = 0
        self.root = -1
        self.proc = -1
        self.own_cgroup = False
        self.descriptors: tuple[int, int] | None = None

    def fail(self, step: int, number: int) -> None:
        os.write(self.status, REPORT.pack(step, number))

    def tell(self, text: bytes) -> None:
        """A word about the failure that follows."""
        os.write(self.status, b"".join(_WORD.pack(WORD, text[at : at + 4]) for at in range(0, len(text), 4)))

    def warn(self, text: bytes) -> None:
        """The step is done, and not quite as it was asked for."""
        self.tell(text)
        os.write(self.status, REPORT.pack(WARNING, self.step))

    def rlimit(self, kind: int, soft: int, hard: int) -> None:
        """Only here, as the host's root, can a hard limit be raised. That on descriptors is lowered last: until then we
        have all of the monitor's."""
        if kind != resource.RLIMIT_NOFILE:
            limits.set_limit(kind, soft, hard)
        elif limits.attainable(kind, soft, hard) == (soft, hard):
            self.descriptors = (soft, hard)
        else:
            raise OSError(errno.EPERM, "")

    def default_limits(self, table: list[tuple[int, int, int]]) -> None:
        """What nothing was said about: the same in every container, or what is left of it on this machine."""
        for kind, soft, hard in table:
            if resource.getrlimit(kind) == (soft, hard) and kind != resource.RLIMIT_NOFILE:
                continue
            pair = limits.attainable(kind, soft, hard)
            if kind == resource.RLIMIT_NOFILE:
                self.descriptors = pair
            else:
                limits.set_limit(kind, *pair)

    def oom_score(self, value: int) -> None:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"%d" % value)
        os.close(fd)

    def overlay(self, slot: int, lowers: list[int], bundle: str) -> None:
        upper = b"/c/" + os.fsencode(bundle)
        own: list[tuple[bytes, bytes | None]] = [(b"upperdir", upper + b"/upper"), (b"workdir", upper + b"/work")]
        self.slots[slot] = mounts.new_filesystem(b"overlay", lower_options(lowers) + own, c.MOUNT_ATTR_NODEV)

    def devices(self, slot: int, options: list[list[str | None]], attributes: int, owner: int) -> None:
        """A tmpfs for /dev, with the six devices: made by root, so that they need no bind mounts."""
        # Our tmpfs, not the container's: nodev would make the devices useless.
        fd = mounts.new_filesystem(b"tmpfs", encode_options(options), attributes & ~c.MOUNT_ATTR_NODEV)
        self.slots[slot] = fd
        os.umask(0)
        for name, major, minor in DEVICES:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=fd)
            os.chown(name, owner, owner, dir_fd=fd)
        for name in DEV_FOLDERS:
            os.mkdir(name, 0o755, dir_fd=fd)
            os.chown(name, owner, owner, dir_fd=fd)
        for name, target in DEV_LINKS:
            os.symlink(target, name, dir_fd=fd)
            os.chown(name, owner, owner, dir_fd=fd, follow_symlinks=False)
        if "stdin" not in self.fds:
            self.fds["stdin"] = os.open("null", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd)

    def nodes(self, slot: int, nodes: list[tuple[str, int, int, int, int, int]], owner: int) -> None:
        """Further nodes in the tmpfs of `devices`: path, type and mode, numbers, owner and group. One that is there already
        is replaced."""
        os.umask(0)
        for path, mode, major, minor, uid, gid in nodes:
            *folders, name = path.split("/")
            at = os.dup(self.slots[slot])
            for folder in folders:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o755, dir_fd=at)
                    os.chown(folder, owner, owner, dir_fd=at)
                below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                os.close(at)
                at = below
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)
            os.mknod(name, mode, os.makedev(major, minor), dir_fd=at)
            os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)
            os.close(at)

    def root_devices(self, slot: int) -> None:
        """Devices open in the file system of `overlay`: the container's group says which."""
        mounts.set_attributes(self.slots[slot], clear=c.MOUNT_ATTR_NODEV)

    def to_host(self) -> None:
        process.setns(self.namespaces.host_ns, c.CLONE_NEWNS)

    def to_home(self) -> None:
        process.setns(self.namespaces.own_ns, c.CLONE_NEWNS)

    def ids(self, slot: int, name: str) -> None:
        """The ids of the bind in `slot` will be mapped by the user namespace `name`, and not the container's."""
        self.owners[slot] = self.fds[name]

    def bind(self, slot: int, source: str, recursive: bool, set_: int, clear: int, propagation: int, idmap: bool) -> None:
        tree = mounts.open_tree(c.AT_FDCWD, os.fsencode(source), recursive=recursive)
        if not self._adapt(slot, tree, recursive, set_, clear, propagation, idmap):
            found = os.open(source, os.O_PATH | os.O_CLOEXEC)
            self._adapt_parts(slot, found, recursive, set_, clear, propagation)
            os.close(found)

    def bind_below(
        self,
        slot: int,
        base: str,
        folder: str,
        recursive: bool,
        set_: int,
        clear: int,
        propagation: int,
        idmap: bool,
    ) -> None:
        """As `bind`, of a folder that containers may have made: no link on the way leads out of `base` (openat2(2))."""
        top = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        found = openat2(top, os.fsencode(folder), os.O_PATH, BELOW)
        tree = mounts.open_tree(found, b"", recursive=recursive)
        if not self._adapt(slot, tree, recursive, set_, clear, propagation, idmap):
            self._adapt_parts(slot, found, recursive, set_, clear, propagation)
        os.close(found)
        os.close(top)

    def image(self, slot: int, lowers: list[int], folder: str, attributes: int) -> None:
        """An image without a writable layer. `folder`: resolved inside of it."""
        place = b"/l/%d" % lowers[0]
        if len(lowers) == 1:
            tree = mounts.open_tree(c.AT_FDCWD, place)
        else:
            tree = mounts.new_filesystem(b"overlay", lower_options(lowers), c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_RDONLY)
        if folder:
            if len(lowers) > 1:
                # The kernel copies parts only of a mount that has a place: one that nobody else sees.
                place = b"/r"
                process.unshare(c.CLONE_NEWNS)
                mounts.attach(tree, c.AT_FDCWD, place)
            os.close(tree)
            tree = _part(place, folder)
            process.setns(self.namespaces.own_ns, c.CLONE_NEWNS)
        mounts.set_attributes(tree, attributes, propagation=c.MS_PRIVATE)
        self.slots[slot] = tree

    def shared_memory(self, slot: int, name: str, attributes: int) -> None:
        """The /dev/shm of the container whose process the pidfd `name` is of."""
        process.setns(self.fds[name], c.CLONE_NEWNS)
        top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        found = openat2(top, b"dev/shm", os.O_PATH | os.O_DIRECTORY, BELOW)
        tree = mounts.open_tree(found, b"")
        os.close(found)
        os.close(top)
        process.setns(self.namespaces.own_ns, c.CLONE_NEWNS)
        mounts.set_attributes(tree, attributes, propagation=c.MS_PRIVATE)
        self.slots[slot] = tree

    def outer_filesystem(self, slot: int, kind: str, options: list[list[str | None]], attributes: int) -> None:
        """A file system that shows what is in the namespaces of the host."""
        self.slots[slot] = mounts.new_filesystem(os.fsencode(kind), encode_options(options), attributes)

    def _adapt(
        self, slot: int, tree: int, recursive: bool, set_: int, clear: int, propagation: int, idmap: bool
    ) -> bool:
        """False when the ids of a mount in it cannot be mapped; nothing of it is changed then."""
        self.slots[slot] = tree
        userns = self.owners.get(slot, self.fds["user"]) if idmap else None
        try:
            mounts.set_attributes(tree, set_, clear, propagation=propagation, userns=userns, recursive=recursive)
        except OSError as exc:
            if not idmap or exc.errno not in _CANNOT_BE_MAPPED:
                raise
            return False
        return True

    def _adapt_parts(self, slot: int, found: int, recursive: bool, set_: int, clear: int, propagation: int) -> None:
        """As `_adapt`, mount by mount. Those whose ids cannot be mapped (overlay, proc, many network file systems) are as
        they are, which is warned of: what the container may do there is what others may. `found`: the source."""
        top = os.readlink(b"/proc/self/fd/%d" % found)
        parts = part_by_part.parts_below(found) if recursive else []
        whole = part_by_part.Part(b"", mounts.open_tree(found, b""), part_by_part.kind_of(found))
        if parts and not propagation:
            # In the peer group of its source: what is attached to it would be seen on the host.
            mounts.set_attributes(self.slots[slot], set_, clear, recursive=True)
            plain = [whole, *parts]
        else:
            os.close(self.slots[slot])
            userns = self.owners.get(slot, self.fds["user"])
            plain = [part for part in (whole, *parts) if not _map(part.tree, set_, clear, propagation, userns)]
            self.slots[slot] = self._joined(whole.tree, parts) if parts else os.dup(whole.tree)
        for part in (whole, *parts):
            os.close(part.tree)
        self.warn(part_by_part.named([(os.path.join(top, part.path) if part.path else top, part.kind) for part in plain]))

    def _joined(self, top: int, parts: list[part_by_part.Part]) -> int:
        """One detached tree of detached mounts: put together where nobody sees it, and copied."""
        process.setns(self.namespaces.own_ns, c.CLONE_NEWNS)
        process.unshare(c.CLONE_NEWNS)
        mounts.attach(top, c.AT_FDCWD, b"/r")
        for part in parts:
            where = openat2(top, part.path, os.O_PATH | os.O_NOFOLLOW, BELOW)
            mounts.attach(part.tree, where)
            os.close(where)
        tree = mounts.open_tree(c.AT_FDCWD, b"/r", recursive=True)
        process.setns(self.namespaces.host_ns, c.CLONE_NEWNS)
        return tree

    def top_attributes(self, slot: int, set_: int, clear: int) -> None:
        """Of the mount itself, and not of those below it."""
        mounts.set_attributes(self.slots[slot], set_, clear)

    def propagate(self, slot: int, propagation: int, recursive: bool) -> None:
        """A copy of a mount is in the peer group of its source; so it stays, if that is shared and is to be shared."""
        mounts.set_attributes(self.slots[slot], propagation=propagation, recursive=recursive)

    def enter(self) -> None:
        """Into the sandbox's user and network namespace, then the final child in the run's own ones."""
        self.enter_some(True, True, NAMESPACES & ~(c.CLONE_NEWUSER | c.CLONE_NEWNET), [])

    def enter_some(self, user: bool, network: bool, kinds: int, joined: list[tuple[str, int]]) -> None:
        """As `enter`, but for what is the host's, or another container's. `kinds`: made for this run. `joined`: those of
        living processes, by the names of their pidfds."""
        process.join_new_session_keyring()
        for name, kind in joined:
            process.setns(self.fds[name], kind)
        if user:
            process.setns(self.fds["user"], c.CLONE_NEWUSER)
        if network:
            process.setns(self.fds["net"], c.CLONE_NEWNET)
        _become_root()
        self.own_cgroup = bool(kinds & c.CLONE_NEWCGROUP)
        # In the v1 hierarchies we are not yet where it has to begin: see `joined`.
        self._divide(kinds & ~c.CLONE_NEWCGROUP if self.procs else kinds)
        mounts.set_attributes(c.AT_FDCWD, propagation=c.MS_PRIVATE, recursive=True, path=b"/")

    def join(self) -> None:
        """Into all namespaces of the running container, for exec."""
        self.join_some(NAMESPACES)

    def join_some(self, kinds: int) -> None:
        """As `join`, but for what is the host's."""
        process.join_new_session_keyring()
        process.setns(self.fds["target"], kinds)
        _become_root()
        if self.born is not None:
            self._divide(0)
        self.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _divide(self, kinds: int) -> None:
        if process.clone3(kinds | c.CLONE_PARENT, tell=self.born):
            os._exit(0)


def _map(tree: int, set_: int, clear: int, propagation: int, userns: int) -> bool:
    """Whether its ids could be mapped. Its attributes are set in any case."""
    try:
        mounts.set_attributes(tree, set_, clear, propagation=propagation, userns=userns)
    except OSError as exc:
        if exc.errno not in _CANNOT_BE_MAPPED:
            raise
        mounts.set_attributes(tree, set_, clear, propagation=propagation)
        return False
    return True


def _part(place: bytes, folder: str) -> int:
    """A detached copy of the mount at `place`, from `folder` on."""
    top = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    found = openat2(top, os.fsencode(folder), os.O_PATH, IN_ROOT)
    tree = mounts.open_tree(found, b"")
    os.close(found)
    os.close(top)
    return tree


def lower_options(lowers: list[int]) -> list[tuple[bytes, bytes | None]]:
    layers = b":".join(b"/l/%d" % number for number in lowers)
    if len(layers) < 250:
        return [(b"lowerdir", layers)]
    # fsconfig's strings end at 256 bytes; lowerdir+ exists since Linux 6.8.
    return [(b"lowerdir+", b"/l/%d" % number) for number in lowers]


def _become_root() -> None:
    """Root of the user namespace just entered; our ids of outside mean nobody in it."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def encode_options(options: list[list[str | None]]) -> list[tuple[bytes, bytes | None]]:
    return [(os.fsencode(key or ""), None if value is None else os.fsencode(value)) for key, value in options]
