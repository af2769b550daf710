"""What a child does between its birth and execve: the steps of a program (docs/monitor-protocol.md), one method each.

Two processes run one list. **Stage 1** is root of the host; `enter` (or `join`, for exec) makes the **final child** and
ends stage 1. From there on nothing may be imported, looked up by a codec or name service, or formatted: the file system is
becoming the image's, and what it offers would run with our rights. A failure is two numbers in a pipe.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import struct
from binascii import a2b_base64

from orchestrator.kernel import constants as c
from orchestrator.kernel import fdpass, limits, mounts, process
from orchestrator.kernel.rooted import ensure, open_in
from orchestrator.kernel.syscalls import (
    cloexec_from,
    close_from,
    filesystem_type,
    setdomainname,
    sethostname,
)
from orchestrator.runtime.monitor.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Callable
    from typing import Any, NoReturn

REPORT = struct.Struct("<iii")
REPORT_PID, REPORT_ERROR = 1, 2
BROKEN = -1
"""The step number of a failure that no step has: a bug, or a stage 1 that was killed."""

_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_DEV_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ALL_SIGNALS = signal.valid_signals()
_NAMESPACES = (
    c.CLONE_NEWUSER | c.CLONE_NEWNS | c.CLONE_NEWPID | c.CLONE_NEWUTS | c.CLONE_NEWIPC | c.CLONE_NEWNET | c.CLONE_NEWCGROUP
)


class Child:
    """`status`: the pipe for reports. `fds`: named descriptors. `procs`: v1 cgroup.procs files to enter."""

    def __init__(self, status: int, fds: dict[str, int], procs: list[int], home: Home) -> None:
        self.status = status
        self.fds = fds
        self.procs = procs
        self.home = home
        self.slots: dict[int, int] = {}
        self.step = 0
        self.root = -1
        self.proc = -1
        self.gate = -1
        self.descriptors: tuple[int, int] | None = None

    def run(self, program: bytes) -> NoReturn:
        """Execute all steps; the last one is ``exec``. Never returns, never raises."""
        try:
            for number, (name, *arguments) in enumerate(json.loads(program)):
                self.step = number
                STEPS[name](self, *arguments)
            self._fail(BROKEN, 0)
        except OSError as exc:
            self._fail(self.step, exc.errno or 0)
        except BaseException:
            self._fail(BROKEN, self.step)
        finally:
            os._exit(127)

    def _fail(self, step: int, number: int) -> None:
        os.write(self.status, REPORT.pack(REPORT_ERROR, step, number))

    # Stage 1.

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
        layers = b":".join(b"/l/%d" % number for number in lowers)
        upper = b"/c/" + os.fsencode(bundle)
        if len(layers) < 250:
            lower_options: list[tuple[bytes, bytes | None]] = [(b"lowerdir", layers)]
        else:  # fsconfig's strings end at 256 bytes; lowerdir+ exists since Linux 6.8.
            lower_options = [(b"lowerdir+", b"/l/%d" % number) for number in lowers]
        own: list[tuple[bytes, bytes | None]] = [(b"upperdir", upper + b"/upper"), (b"workdir", upper + b"/work")]
        self.slots[slot] = mounts.new_filesystem(b"overlay", lower_options + own, c.MOUNT_ATTR_NODEV)

    def devices(self, slot: int, options: list[list[str | None]], attributes: int, owner: int) -> None:
        """A tmpfs for /dev, with the six devices: made by root, so that they need no bind mounts."""
        # Our tmpfs, not the container's: nodev would make the devices useless.
        fd = mounts.new_filesystem(b"tmpfs", _encode_options(options), attributes & ~c.MOUNT_ATTR_NODEV)
        self.slots[slot] = fd
        os.umask(0)
        for name, major, minor in _DEVICES:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=fd)
            os.chown(name, owner, owner, dir_fd=fd)
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(name, 0o755, dir_fd=fd)
            os.chown(name, owner, owner, dir_fd=fd)
        for name, target in _DEV_LINKS:
            os.symlink(target, name, dir_fd=fd)
            os.chown(name, owner, owner, dir_fd=fd, follow_symlinks=False)
        if "stdin" not in self.fds:
            self.fds["stdin"] = os.open("null", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd)

    def to_host(self) -> None:
        process.setns(self.home.host_ns, c.CLONE_NEWNS)

    def to_home(self) -> None:
        process.setns(self.home.own_ns, c.CLONE_NEWNS)

    def bind(self, slot: int, source: str, recursive: bool, set_: int, clear: int, propagation: int, idmap: bool) -> None:
        tree = mounts.open_tree(c.AT_FDCWD, os.fsencode(source), recursive=recursive)
        self.slots[slot] = tree
        if idmap:
            try:
                mounts.set_attributes(
                    tree, set_, clear, propagation=propagation, userns=self.fds["user"], recursive=recursive
                )
                return
            except OSError as exc:
                if exc.errno not in (errno.EINVAL, errno.EPERM):
                    raise
                # A file system that cannot be idmapped (proc, some network ones): plain, its files are nobody's.
        mounts.set_attributes(tree, set_, clear, propagation=propagation, recursive=recursive)

    def enter(self) -> None:
        """Into the sandbox's user and network namespace, then the final child in the run's own ones."""
        process.setns(self.fds["user"], c.CLONE_NEWUSER)
        process.setns(self.fds["net"], c.CLONE_NEWNET)
        _become_root()
        kinds = c.CLONE_NEWPID | c.CLONE_NEWNS | c.CLONE_NEWUTS | c.CLONE_NEWIPC
        self._divide(kinds if self.procs else kinds | c.CLONE_NEWCGROUP)
        mounts.set_attributes(c.AT_FDCWD, propagation=c.MS_PRIVATE, recursive=True, path=b"/")

    def join(self) -> None:
        """Into all namespaces of the running container, for exec."""
        process.setns(self.fds["target"], _NAMESPACES)
        _become_root()
        self._divide(0)
        self.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _divide(self, kinds: int) -> None:
        gate_out = -1
        if self.procs:
            self.gate, gate_out = os.pipe()
        pid = process.clone3(kinds | c.CLONE_PARENT)
        if pid == 0:
            if gate_out >= 0:
                os.close(gate_out)
            return
        os.write(self.status, REPORT.pack(REPORT_PID, pid, 0))
        for fd in self.procs:
            try:
                os.write(fd, b"%d" % pid)
            except ProcessLookupError:
                break  # It has failed already, and has said so itself.
            except OSError as exc:
                self._fail(self.step, exc.errno or 0)
                os._exit(1)
        if gate_out >= 0:
            os.write(gate_out, b"!")
        os._exit(0)

    # The final child.

    def joined(self) -> None:
        """Wait until stage 1 has put us into the v1 cgroups; only then our cgroup namespace has the right root."""
        if self.gate >= 0:
            if not os.read(self.gate, 1):
                raise OSError(errno.ECANCELED, "")
            if "target" not in self.fds:
                process.unshare(c.CLONE_NEWCGROUP)

    def take_root(self, slot: int) -> None:
        mounts.attach(self.slots[slot], c.AT_FDCWD, b"/r")
        self.root = os.open("/r", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def attach(self, slot: int, target: str) -> None:
        self._put(self.slots.pop(slot), target)

    def _put(self, tree: int, target: str) -> None:
        where = ensure(self.root, os.fsencode(target), directory=stat.S_ISDIR(os.fstat(tree).st_mode))
        mounts.attach(tree, where)
        os.close(where)
        if tree != self.proc:
            os.close(tree)

    def filesystem(self, kind: str, options: list[list[str | None]], attributes: int, target: str) -> None:
        tree = mounts.new_filesystem(os.fsencode(kind), _encode_options(options), attributes)
        if kind == "proc":
            self.proc = tree
        self._put(tree, target)

    def files(self, files: list[list[Any]]) -> None:
        """Files of our making, each mounted over its path. They live in a small tmpfs of this run: what is on a disk costs
        much more to make, and would have to be renewed for the next run anyway."""
        attributes = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV
        tree = mounts.new_filesystem(b"tmpfs", [(b"mode", b"0755"), (b"size", b"1m")], attributes)
        # Only what is attached can be cloned (open_tree(2)); /f is left behind with the old root.
        mounts.attach(tree, c.AT_FDCWD, b"/f")
        for number, (target, mode, content) in enumerate(files):
            name = b"%d" % number
            fd = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=tree)
            os.write(fd, a2b_base64(content))
            os.fchmod(fd, mode)
            os.close(fd)
            self._put(mounts.open_tree(tree, name), target)
        os.close(tree)

    def sysctl(self, path: str, value: str) -> None:
        """`path` below /proc/sys, through the procfs that we mounted ourselves."""
        fd = os.open(f"sys/{path}", os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.proc)
        os.write(fd, os.fsencode(value))
        os.close(fd)

    def mask(self, path: str) -> None:
        try:
            where = open_in(self.root, os.fsencode(path))
        except (FileNotFoundError, NotADirectoryError):
            return
        source = b"/d/empty" if stat.S_ISDIR(os.fstat(where).st_mode) else b"/d/null"
        tree = mounts.open_tree(c.AT_FDCWD, source)
        mounts.attach(tree, where)
        os.close(tree)
        os.close(where)

    def read_only(self, path: str) -> None:
        try:
            where = open_in(self.root, os.fsencode(path))
        except (FileNotFoundError, NotADirectoryError):
            return
        tree = mounts.open_tree(where, b"", recursive=True)
        mounts.set_attributes(tree, c.MOUNT_ATTR_RDONLY, recursive=True)
        mounts.attach(tree, where)
        os.close(tree)
        os.close(where)

    def make_read_only(self, path: str) -> None:
        """The mount at `path` itself, once all is made below it."""
        where = open_in(self.root, os.fsencode(path))
        mounts.set_attributes(where, c.MOUNT_ATTR_RDONLY)
        os.close(where)

    def root_read_only(self) -> None:
        mounts.set_attributes(self.root, c.MOUNT_ATTR_RDONLY)

    def hostname(self, name: str, domain: str) -> None:
        sethostname(os.fsencode(name))
        if domain:
            setdomainname(os.fsencode(domain))

    def pivot(self) -> None:
        mounts.pivot_to(self.root)

    def session(self) -> None:
        os.setsid()
        process.join_new_session_keyring()

    def stdio(self) -> None:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.dup2(self.fds.get(name, self.home.null), number)

    def terminal(self, owner: int, group: int) -> None:
        """A pty of the container's own devpts becomes our terminal; its master is sent over the socket `pty`."""
        master = open_in(self.root, b"/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        if filesystem_type(master) != c.DEVPTS_SUPER_MAGIC:
            raise OSError(errno.ENODEV, "")
        fcntl.ioctl(master, c.TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, c.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        os.fchown(slave, owner, group)
        channel = socket.socket(fileno=self.fds["pty"])
        fdpass.send(channel, b"m", [master])
        fcntl.ioctl(slave, c.TIOCSCTTY, 0)
        for number in range(3):
            os.dup2(slave, number)
        os.close(slave)

    def working_directory(self, path: str) -> None:
        fd = ensure(self.root, os.fsencode(path), directory=True)
        os.fchdir(fd)
        os.close(fd)
        if not os.getcwdb().startswith(b"/"):
            raise OSError(errno.ENOENT, "")

    def bounding(self, keep: list[int], last: int) -> None:
        process.drop_bounding(frozenset(keep), last)

    def identity(self, uid: int, gid: int, groups: list[int]) -> None:
        if uid:
            process.keep_capabilities()
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)

    def capabilities(self, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
        process.set_capabilities(effective, permitted, inheritable)
        process.raise_ambient(ambient)

    def no_new_privileges(self) -> None:
        process.set_no_new_privileges()

    def seccomp(self, program: str) -> None:
        process.install_seccomp(a2b_base64(program))

    def init(self) -> None:
        """Become a tiny PID 1, and go on in a child: everything of us is confined as the container is by now."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
        pid = process.fork_plain()
        if pid:
            close_from(0)
            # The monitor's words are nobody's business in the container, and we would pass for a monitor on the host.
            process.rename_self(self.home.words, b"pystack-init")
            _serve_as_init(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL_SIGNALS)

    def execute(self, argv: list[str], environment: list[str], umask: int) -> None:
        os.umask(umask)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        arguments = [os.fsencode(text) for text in argv]
        variables: dict[bytes, bytes] = {}
        for text in environment:
            name, _, value = os.fsencode(text).partition(b"=")
            variables[name] = value
        if self.descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self.descriptors)
        cloexec_from(3)
        command = arguments[0]
        if b"/" in command:
            os.execve(command, arguments, variables)
        refused: OSError | None = None
        for directory in variables.get(b"PATH", _DEFAULT_PATH).split(b":"):
            try:
                os.execve((directory or b".") + b"/" + command, arguments, variables)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as exc:
                refused = exc
        raise refused or OSError(errno.ENOENT, "")


def _become_root() -> None:
    """Root of the user namespace just entered; our ids of outside mean nobody in it."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _encode_options(options: list[list[str | None]]) -> list[tuple[bytes, bytes | None]]:
    return [(os.fsencode(key or ""), None if value is None else os.fsencode(value)) for key, value in options]


def _serve_as_init(child: int) -> NoReturn:
    """Reap everything, pass signals on to `child`, and end as it ends (128 + N after signal N)."""
    while True:
        number = signal.sigwaitinfo(_ALL_SIGNALS).si_signo
        if number != signal.SIGCHLD:
            try:
                os.kill(child, number)
            except OSError:
                continue
            continue
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
            if pid == 0:
                break


STEPS: dict[str, Callable[..., Any]] = {
    "rlimit": Child.rlimit,
    "default_limits": Child.default_limits,
    "oom_score": Child.oom_score,
    "overlay": Child.overlay,
    "devices": Child.devices,
    "to_host": Child.to_host,
    "to_home": Child.to_home,
    "bind": Child.bind,
    "enter": Child.enter,
    "join": Child.join,
    "joined": Child.joined,
    "take_root": Child.take_root,
    "attach": Child.attach,
    "filesystem": Child.filesystem,
    "files": Child.files,
    "sysctl": Child.sysctl,
    "mask": Child.mask,
    "read_only": Child.read_only,
    "make_read_only": Child.make_read_only,
    "root_read_only": Child.root_read_only,
    "hostname": Child.hostname,
    "pivot": Child.pivot,
    "session": Child.session,
    "stdio": Child.stdio,
    "terminal": Child.terminal,
    "working_directory": Child.working_directory,
    "bounding": Child.bounding,
    "identity": Child.identity,
    "capabilities": Child.capabilities,
    "no_new_privileges": Child.no_new_privileges,
    "seccomp": Child.seccomp,
    "init": Child.init,
    "execute": Child.execute,
}
