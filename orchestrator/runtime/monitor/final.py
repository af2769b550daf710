"""The final child: in the container's namespaces, on its way to its execve; root of its user namespace until `identity`.

From here on nothing may be imported, looked up by a codec or name service, or formatted: the file system is becoming the
image's, and what it offers would run with our rights.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import struct
from binascii import a2b_base64

from orchestrator.kernel import constants as c
from orchestrator.kernel import fdpass, mounts, process
from orchestrator.kernel.rooted import ensure, open_in
from orchestrator.kernel.suppress import suppress
from orchestrator.kernel.syscalls import (
    cloexec_from,
    close_from,
    close_range,
    filesystem_type,
    setdomainname,
    sethostname,
)
from orchestrator.runtime.monitor.init import NAME
from orchestrator.runtime.monitor.interpreter import interpreter_of
from orchestrator.runtime.monitor.stage1 import EXECUTING, FILES_SOURCE, READY, Stage1, encode_options

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import signal
    import socket
    from typing import Any, NoReturn
else:  # `signal` and `socket` make enumerations of all that they have
    import _signal as signal
    import _socket as socket

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ALL_SIGNALS = signal.valid_signals()
_OF_A_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH})
"""What the kernel sends to the foreground group of a terminal."""


class FinalChild(Stage1):
    pty = -1
    """The number of the terminal in the container's devpts."""
    fixed_files = False

    def joined(self) -> None:
        """Into the v1 cgroups; only then our cgroup namespace has the right root. A thread that moves itself alone waits
        for no other's fork or exit (the file `tasks`; 8 ms after a quiet moment otherwise)."""
        for fd in self.procs:
            os.write(fd, b"0")
        if self.procs and self.own_cgroup:
            process.unshare(c.CLONE_NEWCGROUP)

    def take_root(self, slot: int) -> None:
        mounts.attach(self.slots[slot], c.AT_FDCWD, b"/r")
        self.root = os.open("/r", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def attach(self, slot: int, target: str) -> None:
        self._put(self.slots.pop(slot), target)

    def _put(self, tree: int, target: str) -> None:
        """Raises OSError; ENOTDIR or EISDIR, after a word about the place, when one of both is a folder and the other is
        none."""
        place = os.fsencode(target)
        folder = stat.S_ISDIR(os.fstat(tree).st_mode)
        where = ensure(self.root, place, directory=folder)
        if folder != stat.S_ISDIR(os.fstat(where).st_mode):
            self.tell(place)
            raise OSError(errno.ENOTDIR if folder else errno.EISDIR, "")
        mounts.attach(tree, where)
        os.close(where)
        if tree != self.proc:
            os.close(tree)

    def filesystem(self, kind: str, options: list[list[str | None]], attributes: int, target: str) -> None:
        tree = mounts.new_filesystem(os.fsencode(kind), encode_options(options), attributes)
        if kind == "proc":
            self.proc = tree
        self._put(tree, target)

    def files_read_only(self) -> None:
        """Those of the next step will be."""
        self.fixed_files = True

    def files(self, files: list[list[Any]]) -> None:
        """Files of our making, each mounted over its path. They live in a small tmpfs of this run: what is on a disk costs
        much more to make, and would have to be renewed for the next run anyway."""
        self._make_files([[*file, 0, 0] for file in files], b"1m")

    def owned_files(self, files: list[list[Any]]) -> None:
        """As `files`, each with its owner and group, and with room for all of it."""
        # Base64 is longer than what it stands for; a page for the end of each.
        self._make_files(files, b"%d" % sum(len(file[2]) + 8192 for file in files))

    def _make_files(self, files: list[list[Any]], size: bytes) -> None:
        attributes = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV
        source = [(b"source", FILES_SOURCE)] if self.fixed_files else []
        tree = mounts.new_filesystem(b"tmpfs", [(b"mode", b"0755"), (b"size", size), *source], attributes)
        # Only what is attached can be cloned (open_tree(2)); /f is left behind with the old root.
        mounts.attach(tree, c.AT_FDCWD, b"/f")
        for number, (_, mode, content, uid, gid) in enumerate(files):
            fd = os.open(b"%d" % number, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=tree)
            os.write(fd, a2b_base64(content))
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
            os.close(fd)
        if self.fixed_files:
            mounts.set_attributes(tree, c.MOUNT_ATTR_RDONLY)  # A copy is as its original.
        for number, (target, *_) in enumerate(files):
            self._put(mounts.open_tree(tree, b"%d" % number), target)
        os.close(tree)

    def node_at(self, name: str, target: str) -> None:
        """A node of ours in /dev goes to `target`, outside of it."""
        dev = open_in(self.root, b"/dev")
        node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
        self._put(mounts.open_tree(node, b""), target)
        os.unlink(name, dir_fd=dev)
        os.close(node)
        os.close(dev)

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
        if name:
            sethostname(os.fsencode(name))
        if domain:
            setdomainname(os.fsencode(domain))

    def pivot(self) -> None:
        mounts.pivot_to(self.root)

    def session(self) -> None:
        os.setsid()

    def stdio(self) -> None:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.dup2(self.fds.get(name, self.namespaces.null), number)

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
        self.pty = int(struct.unpack("i", fcntl.ioctl(master, c.TIOCGPTN, bytes(4)))[0])
        fcntl.ioctl(slave, c.TIOCSCTTY, 0)
        for number in range(3):
            os.dup2(slave, number)
        os.close(slave)

    def window(self, rows: int, columns: int) -> None:
        """The size of the terminal, before the program can ask for it."""
        fcntl.ioctl(0, c.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def console(self) -> None:
        """/dev/console is the terminal, as the runtime-spec has it."""
        tree = mounts.open_tree(open_in(self.root, b"/dev/pts/%d" % self.pty), b"")
        self._put(tree, "/dev/console")

    def working_directory(self, path: str) -> None:
        self._enter_directory(ensure(self.root, os.fsencode(path), directory=True))

    def change_directory(self, path: str) -> None:
        """As `working_directory`, of one that exists."""
        self._enter_directory(open_in(self.root, os.fsencode(path), os.O_PATH | os.O_DIRECTORY))

    def _enter_directory(self, fd: int) -> None:
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

    def seccomp_flags(self, program: str, flags: int) -> None:
        process.install_seccomp(a2b_base64(program), flags)

    def init(self) -> None:
        """Become a tiny PID 1, and go on in a child: everything of us is confined as the container is by now."""
        self._go_on_below(b"%d")

    def mind(self) -> None:
        """As `init`, for a probe in a container whose PID 1 may reap nobody: what the child leaves behind is ours. How it
        ended is told by the pipe `verdict`; we end with the last that it started."""
        if self.namespaces.init >= 0:
            self._go_on_below(b"+%d", self.fds["verdict"])
            os.setsid()

    def _go_on_below(self, word: bytes, verdict: int = -1) -> None:
        """The child waits until nothing of the monitor is left in its parent: the first thing that it does may be to look
        there."""
        replaced, mark = os.pipe2(os.O_CLOEXEC)
        signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
        # In another's pid namespace we are not PID 1, to whom orphans come.
        process.set_child_subreaper()
        pid = process.fork_plain()
        if pid:
            self._become_init(pid, word % pid, verdict)
        os.close(mark)
        os.read(replaced, 1)
        os.close(replaced)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL_SIGNALS)

    def _become_init(self, child: int, word: bytes, verdict: int) -> NoReturn:
        """The program of `monitor.init`; where that cannot be executed, we stay what we are, without a descriptor."""
        if verdict >= 0:
            os.dup2(verdict, 0)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        cloexec_from(3 if verdict < 0 else 1)
        with suppress(OSError):
            if self.descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, self.descriptors)
            process.execute_descriptor(self.namespaces.init, (NAME, word))
        close_from(0)
        # The monitor's words are nobody's business in the container, and we would pass for a monitor on the host.
        process.rename_self(self.namespaces.words, NAME)
        _serve_as_init(child)

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
        if (gate := self.fds.get("gate")) is not None:
            self._wait_at(gate)
        else:
            self._close_all_but(self.status)
        self.fail(EXECUTING, 0)
        command = arguments[0]
        if not command:  # No file has that name; os.execve has an error of its own for it.
            raise OSError(errno.ENOENT, "")
        if b"/" in command:
            self._execve(command, arguments, variables)
        refused: OSError | None = None
        for directory in variables.get(b"PATH", DEFAULT_PATH).split(b":"):
            try:
                self._execve((directory or b".") + b"/" + command, arguments, variables)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as exc:
                refused = exc
        raise refused or OSError(errno.ENOENT, "")

    def wait_to_begin(self, before: int) -> None:
        """Until the run before this one has ended, or this one is not wanted any more. Meanwhile we hold nothing of the
        monitor but what we need: somebody may wait for the end of a pipe."""
        self._close_all_but(self.status, *self.fds.values(), *self.procs, *self.namespaces.descriptors())
        if not os.read(before, 1):
            os._exit(127)

    def _wait_at(self, gate: int) -> None:
        """Until the monitor lets us go, or ends. Meanwhile we hold nothing of it but what we need."""
        self._close_all_but(gate, self.status)
        self.fail(READY, 0)
        if not os.read(gate, 1):
            os._exit(127)

    def _close_all_but(self, *kept: int) -> None:
        """What the monitor holds (thousands of ports, may be) counts against the container's limit until it is closed."""
        first = 3
        for fd in sorted(kept):
            if fd > first:
                close_range(first, fd - 1)
            first = max(first, fd + 1)
        close_from(first)

    def _execve(self, program: bytes, arguments: list[bytes], variables: dict[bytes, bytes]) -> None:
        """Raises OSError; ELIBACC, after a word about it, when the program is there and its interpreter is not."""
        try:
            os.execve(program, arguments, variables)
        except FileNotFoundError:
            if (interpreter := interpreter_of(program)) is None:
                raise
            self.tell(interpreter)
            raise OSError(errno.ELIBACC, "") from None


def _serve_as_init(child: int) -> NoReturn:
    """Reap everything, pass signals on to `child`, and end as it ends (128 + N after signal N)."""
    while True:
        came = signal.sigwaitinfo(_ALL_SIGNALS)
        number = came.si_signo
        if number != signal.SIGCHLD:
            if came.si_code == c.SI_KERNEL and number in _OF_A_TERMINAL:
                continue  # The child is in the same foreground group, and has it already.
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
