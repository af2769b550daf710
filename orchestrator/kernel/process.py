"""Making and confining processes: clone3(2), setns(2), capabilities(7), prctl(2), seccomp(2), keyctl(2)."""

from __future__ import annotations

import ctypes
import mmap
import struct

from orchestrator.kernel import constants as c
from orchestrator.kernel.syscalls import call, fail, libc, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:  # `signal` makes enumerations of all of them; typing itself would cost the monitor a megabyte
    import _signal as signal


class SharedPid:
    """A pid in memory that this process shares with those it forks (mmap(2), MAP_SHARED)."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._number = ctypes.c_int.from_buffer(self._page)
        self.address = ctypes.addressof(self._number)

    @property
    def value(self) -> int:
        """0: none yet."""
        return self._number.value


def clone3(flags: int, *, cgroup: int | None = None, tell: SharedPid | None = None) -> int:
    """A new process like fork(2): its pid, or 0 in the child. `cgroup`: the v2 directory it is born in. `tell`: where its
    pid is to be, as the caller sees it, before it runs, and whatever happens to the caller (CLONE_PARENT_SETTID).

    Goes past libc's and Python's fork handlers: only for a single-threaded process, whose child ends by exec or _exit.
    """
    if cgroup is not None:
        flags |= c.CLONE_INTO_CGROUP
    # With CLONE_PARENT the exit signal is the caller's own (clone(2)).
    exit_signal = 0 if flags & c.CLONE_PARENT else int(signal.SIGCHLD)
    address = 0
    if tell is not None:
        flags |= c.CLONE_PARENT_SETTID
        address = tell.address
    arguments = struct.pack("=11Q", flags, 0, 0, address, exit_signal, 0, 0, 0, 0, 0, cgroup or 0)
    return call(c.NR_CLONE3, arguments, len(arguments))


def fork_plain() -> int:
    """As `clone3(0)`, by the old clone(2): also works under a seccomp filter that answers ENOSYS to clone3."""
    return call(number_of("clone"), int(signal.SIGCHLD))


def execute_descriptor(fd: int, argv: Sequence[bytes]) -> None:
    """execveat(2) of the open program `fd`, without an environment. Returns never, or raises OSError."""
    words = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    variables = (ctypes.c_char_p * 1)(None)
    call(number_of("execveat"), fd, b"", ctypes.addressof(words), ctypes.addressof(variables), c.AT_EMPTY_PATH)


def setns(fd: int, kinds: int) -> None:
    """Enter the namespace `fd`, or those of `kinds` of the process that the pidfd `fd` is of."""
    if libc.setns(ctypes.c_int(fd), ctypes.c_int(kinds)) != 0:
        raise fail()


def unshare(kinds: int) -> None:
    if libc.unshare(ctypes.c_int(kinds)) != 0:
        raise fail()


_prctl = libc.prctl
_prctl.restype = ctypes.c_int
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def prctl(option: int, a: int = 0, b: int = 0, d: int = 0, e: int = 0) -> None:
    if _prctl(option, a, b, d, e) != 0:
        raise fail()


def set_child_subreaper(on: bool = True) -> bool:
    """Orphans among our descendants become our children (the containers, should the monitor be killed), or no longer do.
    Returns how it was before."""
    before = ctypes.c_int()
    prctl(c.PR_GET_CHILD_SUBREAPER, ctypes.addressof(before))
    prctl(c.PR_SET_CHILD_SUBREAPER, int(on))
    return before.value != 0


def default_internal_signals() -> None:
    """Signals 32 and 33 back to their default action: a parent that uses posix_spawn(3) (make) may have left them ignored,
    which execve(2) keeps, and the C library, which uses them itself, refuses to change them."""
    default = bytes(32)  # struct kernel_sigaction: SIG_DFL, no flags, no mask.
    for number in (32, 33):
        call(number_of("rt_sigaction"), number, default, None, 8)


def set_not_dumpable() -> None:
    """Until the next exec nobody may ptrace us or open our /proc/PID/exe without CAP_SYS_PTRACE outside of containers."""
    prctl(c.PR_SET_DUMPABLE, 0)


def command_line_area() -> tuple[int, int]:
    """Where our command line and, behind it, the environment we were started with are in memory: begin and end
    (proc_pid_stat(5), fields 48 to 51). The same in our forks."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    begin, end, environment, environment_end = map(int, fields[45:49])
    return begin, environment_end if environment == end else end


def rename_self(area: tuple[int, int], name: bytes) -> None:
    """Let ps and /proc/PID/cmdline show `name`. `area`: from `command_line_area`, whose text is gone afterwards, and with
    it the variables of the shell in /proc/PID/environ."""
    begin, end = area
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, name, min(len(name), end - begin - 1))
    name_thread(name)


def name_thread(name: bytes) -> None:
    """What /proc/PID/comm shows; at most 15 bytes of it."""
    text = ctypes.create_string_buffer(name[:15])
    prctl(c.PR_SET_NAME, ctypes.addressof(text))


def set_no_new_privileges() -> None:
    prctl(c.PR_SET_NO_NEW_PRIVS, 1)


def keep_capabilities() -> None:
    """Over the next change of the user id, until exec."""
    prctl(c.PR_SET_KEEPCAPS, 1)


def drop_bounding(keep: frozenset[int], last: int) -> None:
    """Drop all of the bits 0..`last` that are not in `keep` from the bounding set."""
    for bit in range(last + 1):
        if bit not in keep:
            prctl(c.PR_CAPBSET_DROP, bit)


def capabilities() -> tuple[int, int, int]:
    """capget(2) of this process: effective, permitted, inheritable."""
    data = ctypes.create_string_buffer(24)
    call(number_of("capget"), struct.pack("=Ii", c.CAPABILITY_VERSION_3, 0), data)
    low = struct.unpack("=6I", data.raw)
    effective, permitted, inheritable = (low[place] | low[place + 3] << 32 for place in range(3))
    return effective, permitted, inheritable


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this process. Each is a mask of bits."""
    data = struct.pack(
        "=6I",
        effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable & 0xFFFFFFFF,
        effective >> 32, permitted >> 32, inheritable >> 32,
    )  # fmt: skip
    call(number_of("capset"), struct.pack("=Ii", c.CAPABILITY_VERSION_3, 0), data)


def raise_ambient(bits: int) -> None:
    """Exactly these bits in the ambient set; they must be permitted and inheritable."""
    prctl(c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_CLEAR_ALL)
    for bit in range(64):
        if bits >> bit & 1:
            prctl(c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, bit)


def last_capability() -> int:
    """The highest capability bit that the kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def install_seccomp(program: bytes, flags: int = 0) -> None:
    """Install a filter: an array of struct sock_filter, eight bytes each. `flags`: SECCOMP_FILTER_FLAG_*."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    call(number_of("seccomp"), c.SECCOMP_SET_MODE_FILTER, flags, header)


def install_seccomp_listener(program: bytes, flags: int = 0) -> int:
    """As `install_seccomp`; a descriptor for whoever answers SCMP_ACT_NOTIFY (seccomp_unotify(2)), close-on-exec."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    return call(number_of("seccomp"), c.SECCOMP_SET_MODE_FILTER, flags | c.SECCOMP_FILTER_FLAG_NEW_LISTENER, header)


def join_new_session_keyring() -> None:
    """A session keyring of its own, so that keys of ours are not the container's. It counts for whom we are now: to be
    called as the host's root, who may have a million. Others may have 200 (keyrings(7), /proc/sys/kernel/keys), and all
    of a project's containers are one user."""
    call(number_of("keyctl"), c.KEYCTL_JOIN_SESSION_KEYRING, None)


class making_files_as:
    """What this thread makes while the block runs belongs to the user and group `number`; all its rights stay
    (credentials(7), "File system user ID"; capabilities(7), SECBIT_NO_SETUID_FIXUP). A file system of a user namespace, and
    an idmapped mount, take no files of an id that they have no name for. Raises OSError."""
    def __init__(self, number: int) -> None:
        self.number = number
        self.before, self.uid, self.gid = 0, 0, 0

    def __enter__(self) -> None:
        self.before = _prctl(c.PR_GET_SECUREBITS, 0, 0, 0, 0)
        self.uid, self.gid = (change(ctypes.c_uint(_NOBODY)) & _NOBODY for change in (libc.setfsuid, libc.setfsgid))
        prctl(c.PR_SET_SECUREBITS, self.before | c.SECBIT_NO_SETUID_FIXUP)
        try:
            _set_file_owner(self.number, self.number)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_raised: object) -> None:
        _set_file_owner(self.uid, self.gid)
        prctl(c.PR_SET_SECUREBITS, self.before)


_NOBODY = 0xFFFFFFFF
"""No id: changes nothing, and so tells what is."""


def _set_file_owner(uid: int, gid: int) -> None:
    """setfsuid(2) tells the id of before, and nothing of a failure."""
    for change, number in ((libc.setfsgid, gid), (libc.setfsuid, uid)):
        change(ctypes.c_uint(number))
        if change(ctypes.c_uint(_NOBODY)) & _NOBODY != number:
            raise PermissionError(1, "the owner of new files cannot be changed")
