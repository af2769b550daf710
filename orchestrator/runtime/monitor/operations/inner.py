"""What the final child does, up to its execve (`final`)."""

from __future__ import annotations

import os
import resource
import struct
from binascii import a2b_base64

from orchestrator.kernel import constants as c
from orchestrator.kernel.rooted import IN_ROOT
from orchestrator.runtime.monitor import stage1
from orchestrator.runtime.monitor.final import DEFAULT_PATH
from orchestrator.runtime.monitor.operations.language import (
    BYTE,
    GATE,
    MAY_MISS,
    MISSES,
    NULL,
    OPERATION,
    PASSES_GATE,
    PLACES,
    PROC,
    PROCS,
    ROOT,
    STDERR,
    STDIN,
    STDOUT,
    STORE,
    A,
    At,
    B,
    C,
    D,
    E,
    In,
    NotSaid,
    Operations,
    Shape,
    Slot,
    mount_slot,
)
from orchestrator.runtime.monitor.operations.outer import set_limit
from orchestrator.runtime.monitor.stage1 import EXECUTING, FILES_SOURCE, READY

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import signal
    from typing import Any
else:  # `signal` makes enumerations of all of them
    import _signal as signal


def joined(do: Operations, shape: Shape) -> None:
    for number in range(shape.procs):
        do.call("write", Slot(PROCS + number), b"0", 1)
    if shape.procs and shape.own_cgroup:
        do.call("unshare", c.CLONE_NEWCGROUP)


def take_root(do: Operations, shape: Shape, slot: int) -> None:
    do.attach(mount_slot(slot), c.AT_FDCWD, b"/r")
    do.open(b"/r", os.O_PATH | os.O_DIRECTORY, to=ROOT)


def attach(do: Operations, shape: Shape, slot: int, target: str) -> None:
    _put(do, mount_slot(slot), target)


def _put(do: Operations, tree: int, target: str, made: str = "") -> None:
    """`made`: the call that makes the last name of `target` where that is missing; without it, it has to be there. Of what
    somebody else made (a bind) nobody knows yet whether it is a folder."""
    place = os.fsencode(target)
    above, _, name = place.rstrip(b"/").rpartition(b"/")
    if not made or name in (b"", b".", b".."):
        do.open_in(ROOT, place, IN_ROOT)
    else:
        do.open_in(ROOT, place, IN_ROOT, result=MAY_MISS, done=3 if made == "mkdirat" else 4)
        do.open_in(ROOT, above or b"/", IN_ROOT, flags=os.O_RDONLY | os.O_DIRECTORY)
        if made == "mkdirat":
            do.call(made, Slot(B), name, 0o755)
        else:
            do.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, at=Slot(B), to=E)
            do.call("close", Slot(E))  # What is open for writing keeps its mount from becoming read-only.
        do.open_in(ROOT, place, IN_ROOT)
    do.attach(tree, Slot(B))


def filesystem(
    do: Operations, shape: Shape, kind: str, options: list[list[str | None]], attributes: int, target: str
) -> None:
    tree = PROC if kind == "proc" else A
    do.new_filesystem(os.fsencode(kind), stage1.encode_options(options), attributes, tree)
    _put(do, tree, target, "mkdirat")


def files_read_only(do: Operations, shape: Shape) -> None:
    """`Shape.fixed_files`."""


def files(do: Operations, shape: Shape, files: list[list[Any]]) -> None:
    _make_files(do, shape, [[*file, 0, 0] for file in files], b"1m")


def owned_files(do: Operations, shape: Shape, files: list[list[Any]]) -> None:
    _make_files(do, shape, files, b"%d" % sum(len(file[2]) + 8192 for file in files))


def _make_files(do: Operations, shape: Shape, files: list[list[Any]], size: bytes) -> None:
    attributes = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV
    source = [(b"source", FILES_SOURCE)] if shape.fixed_files else []
    do.new_filesystem(b"tmpfs", [(b"mode", b"0755"), (b"size", size), *source], attributes, D)
    do.attach(D, c.AT_FDCWD, b"/f")
    for number, (_, mode, content, uid, gid) in enumerate(files):
        data = a2b_base64(content)
        do.open(b"%d" % number, os.O_CREAT | os.O_WRONLY, mode, at=Slot(D))
        do.call("write", Slot(A), data, len(data))
        do.call("fchown", Slot(A), uid, gid)
        do.call("fchmod", Slot(A), mode)
        do.call("close", Slot(A))
    if shape.fixed_files:
        do.set_attributes(Slot(D), c.MOUNT_ATTR_RDONLY)  # A copy is as its original.
    for number, (target, *_) in enumerate(files):
        do.open_tree(Slot(D), b"%d" % number, C)
        _put(do, C, target, "openat")


def sysctl(do: Operations, shape: Shape, path: str, value: str) -> None:
    do.open(os.fsencode(f"sys/{path}"), os.O_WRONLY | os.O_NOFOLLOW, at=Slot(PROC))
    text = os.fsencode(value)
    do.call("write", Slot(A), text, len(text))


def mask(do: Operations, shape: Shape, path: str) -> None:
    # The kernel's own are as ours are; what is of an image would have to be looked at.
    if not path.startswith(("/proc/", "/sys/")):
        raise NotSaid
    do.open_in(ROOT, os.fsencode(path), IN_ROOT, result=MAY_MISS, passes=2)
    do.open_tree(c.AT_FDCWD, b"/d/empty" if os.path.isdir(path) else b"/d/null", A)
    do.attach(A, Slot(B))


def read_only(do: Operations, shape: Shape, path: str) -> None:
    do.open_in(ROOT, os.fsencode(path), IN_ROOT, result=MAY_MISS, passes=3)
    do.open_tree(Slot(B), b"", A, recursive=True)
    do.set_attributes(Slot(A), c.MOUNT_ATTR_RDONLY, recursive=True)
    do.attach(A, Slot(B))


def make_read_only(do: Operations, shape: Shape, path: str) -> None:
    do.open_in(ROOT, os.fsencode(path), IN_ROOT)
    do.set_attributes(Slot(B), c.MOUNT_ATTR_RDONLY)


def root_read_only(do: Operations, shape: Shape) -> None:
    do.set_attributes(Slot(ROOT), c.MOUNT_ATTR_RDONLY)


def hostname(do: Operations, shape: Shape, name: str, domain: str) -> None:
    for call, text in (("sethostname", os.fsencode(name)), ("setdomainname", os.fsencode(domain))):
        if text:
            do.call(call, text, len(text))


def pivot(do: Operations, shape: Shape) -> None:
    do.call("fchdir", Slot(ROOT))
    do.call("pivot_root", b".", b".")
    do.call("umount2", b".", c.MNT_DETACH)
    do.call("chdir", b"/")


def session(do: Operations, shape: Shape) -> None:
    do.call("setsid")


_GATE = 4
"""The descriptor behind that for reports, which the starter has put at 3: these two stay open longest."""
_DEFAULT_ACTION = bytes(32)
"""struct kernel_sigaction: SIG_DFL, no flags, no mask."""
_SIGNAL_SET_BYTES = 8


def stdio(do: Operations, shape: Shape) -> None:
    for number, (name, slot) in enumerate((("stdin", STDIN), ("stdout", STDOUT), ("stderr", STDERR))):
        # Without a stdin of its own a run has what `devices` opened.
        own = name in shape.named or (name == "stdin" and "target" not in shape.named)
        do.call("dup3", Slot(slot if own else NULL), number, 0)
    if "gate" in shape.named:  # Not later: a filter of system calls may end whoever does it.
        do.call("dup3", Slot(GATE), _GATE, os.O_CLOEXEC)


_CWD_BYTES = 248


def change_directory(do: Operations, shape: Shape, path: str) -> None:
    do.open_in(ROOT, os.fsencode(path), IN_ROOT, flags=os.O_PATH | os.O_DIRECTORY)
    do.call("fchdir", Slot(B))
    place = do.call("getcwd", bytes(_CWD_BYTES), _CWD_BYTES)
    do.call(BYTE, place, ord("/"))


def bounding(do: Operations, shape: Shape, keep: list[int], last: int) -> None:
    for bit in range(last + 1):
        if bit not in keep:
            do.call("prctl", c.PR_CAPBSET_DROP, bit)


def identity(do: Operations, shape: Shape, uid: int, gid: int, groups: list[int]) -> None:
    if uid:
        do.call("prctl", c.PR_SET_KEEPCAPS, 1)
    do.call("setgroups", len(groups), struct.pack(f"={len(groups)}I", *groups))
    do.call("setresgid", gid, gid, gid)
    do.call("setresuid", uid, uid, uid)


def capabilities(do: Operations, shape: Shape, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    sets = (effective, permitted, inheritable)
    masks = struct.pack("=6I", *(mask & 0xFFFFFFFF for mask in sets), *(mask >> 32 for mask in sets))
    do.call("capset", struct.pack("=Ii", c.CAPABILITY_VERSION_3, 0), masks)
    do.call("prctl", c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_CLEAR_ALL)
    for bit in range(64):
        if ambient >> bit & 1:
            do.call("prctl", c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, bit)


def no_new_privileges(do: Operations, shape: Shape) -> None:
    do.call("prctl", c.PR_SET_NO_NEW_PRIVS, 1)


def seccomp(do: Operations, shape: Shape, program: str) -> None:
    seccomp_flags(do, shape, program, 0)


def seccomp_flags(do: Operations, shape: Shape, program: str, flags: int) -> None:
    code = a2b_base64(program)
    # struct sock_fprog: how many instructions of eight bytes, and where they are, which is right behind it.
    filter_ = struct.pack("=H6xq", len(code) // 8, OPERATION.size + 16) + code
    place = do.call(PLACES, In(filter_, 8), 1)
    do.call("seccomp", c.SECCOMP_SET_MODE_FILTER, flags, place)


def execute(do: Operations, shape: Shape, argv: list[str], environment: list[str], umask: int) -> None:
    do.call("umask", umask)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        do.call("rt_sigaction", number, _DEFAULT_ACTION, 0, _SIGNAL_SET_BYTES)
    if shape.descriptors is not None:
        set_limit(do, resource.RLIMIT_NOFILE, *shape.descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    do.call(c.NR_CLOSE_RANGE, _GATE + ("gate" in shape.named), 0xFFFFFFFF, 0)
    if "gate" in shape.named:
        do.report(READY)
        do.call("read", _GATE, bytes(8), 1, result=PASSES_GATE)
    do.report(EXECUTING)
    variables: dict[bytes, bytes] = {}
    for text in environment:
        name, _, value = os.fsencode(text).partition(b"=")
        variables[name] = value
    words = [os.fsencode(text) for text in argv]
    argument_place, variable_place = _vectors(do, words, [name + b"=" + value for name, value in variables.items()])
    command = words[0]
    if not command or b"" in variables or any(b"\0" in text for text in (*words, *variables, *variables.values())):
        raise NotSaid  # Errors, of os.execve's own.
    found = [command]
    if b"/" not in command:
        found = [(folder or b".") + b"/" + command for folder in variables.get(b"PATH", DEFAULT_PATH).split(b":")]
    for path in found[:-1]:
        do.call("execve", path, argument_place, variable_place, result=MAY_MISS)
        # What is there, and whose interpreter is not, is no folder: ENOTDIR. A filter may allow no other call than this.
        do.call("execve", path + b"/", argument_place, variable_place, result=MISSES)
    do.call("execve", found[-1], argument_place, variable_place)


def _vectors(do: Operations, arguments: list[bytes], variables: list[bytes]) -> tuple[At, At]:
    """argv and envp of execve(2): where each is."""
    count = len(arguments) + len(variables) + 2
    texts, places = bytearray(), []
    # The two empty ones are no places: they are made 0 again.
    for text in (*arguments, b"", *variables, b""):
        places.append(OPERATION.size + 8 * count + len(texts))
        texts += text + b"\0"
    base = do.call(PLACES, struct.pack(f"={count}q", *places) + bytes(texts), count)
    middle, end = At(base + 8 * len(arguments)), At(base + 8 * (count - 1))
    for place in (middle, end):
        do.call(STORE, place, 0)
    return base, At(middle + 8)
