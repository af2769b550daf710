"""Steps of a program as operations for the starter (docs/monitor-protocol.md, "The starter"): system calls, no more.

Each function does what the method of that name in `stage1` and `final` does, if nothing is the matter; what is, those two
find out again and say. A step that is not here, or asks for more, is a `NotSaid`: the whole program is theirs then.
"""

from __future__ import annotations

import marshal
import os
import resource
import stat
import struct
from binascii import a2b_base64

from orchestrator.kernel import constants as c
from orchestrator.kernel import limits
from orchestrator.kernel.rooted import BELOW, IN_ROOT
from orchestrator.runtime.monitor import stage1
from orchestrator.runtime.monitor.final import DEFAULT_PATH
from orchestrator.runtime.monitor.stage1 import EXECUTING, NAMESPACES, READY, REPORT

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_NUMBERS = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "umask": 95, "dup3": 292, "fchdir": 81, "chdir": 80, "getcwd": 79,
        "mkdirat": 258, "mknodat": 259, "fchownat": 260, "fchown": 93, "fchmod": 91, "symlinkat": 266, "openat": 257,
        "setsid": 112, "sethostname": 170, "setdomainname": 171, "pivot_root": 155, "umount2": 166, "prctl": 157,
        "capset": 126, "setgroups": 116, "setresuid": 117, "setresgid": 119, "setns": 308, "unshare": 272,
        "keyctl": 250, "prlimit64": 302, "execve": 59, "seccomp": 317,
    },
}  # fmt: skip
_N: Mapping[str, int] = _NUMBERS.get(c.MACHINE, {})

STATUS, USER, NET, CGROUP, WITHIN, TELL, HOST, OWN, NULL, STDIN, STDOUT, STDERR, GATE, BEFORE, ROOT, PROC = range(16)
"""Slots; those up to `NULL` are known to the starter."""
_A, _B, _C, _D, _E = range(16, 21)
"""For what is needed a few operations long."""
_PROCS, _MOST_PROCS = 24, 16
_NAMED, _MOST_NAMED = 40, 8
_MOUNTS, _MOST_MOUNTS = 48, 80
_SLOTS = {
    "user": USER, "net": NET, "cgroup": CGROUP, "target": WITHIN, "stdin": STDIN, "stdout": STDOUT, "stderr": STDERR,
    "gate": GATE, "before": BEFORE,
}  # fmt: skip
_OURS = frozenset({"out", "err"})
"""Descriptors of the monitor's own."""

_FAILS, _MAY_MISS, _MAY_FAIL, _GATE, _DIVIDES = range(5)
"""What becomes of a result: an error ends it; what is not there is passed over; so is any error; 0 ends it in silence;
anything but 0 is the parent, which ends."""
_STORE, _PLACES, _BYTE = -1, -2, -3
_OPERATION = struct.Struct("<HHBBBBiI6q")
_NOTHING = 0xFF
_HEAD = struct.Struct("<II8x64s")
_MOST_BYTES = 60_000
_MOST_KEPT = 512
_PLAIN_MARSHAL = 2
"""Without references: what it makes of equal values is equal."""


class NotSaid(Exception):
    """This has to be carried out by `stage1` and `final`."""


class Slot(int):
    """An argument: what is in that slot."""


class At(int):
    """An argument: a place in the operations of this step."""


class In:
    """An argument: a place in `data`."""

    def __init__(self, data: bytes, offset: int) -> None:
        self.data, self.offset = data, offset


class Operations:
    """Those of one step, as bytes that can be anywhere."""

    def __init__(self) -> None:
        self.data = bytearray()

    def call(
        self,
        name: str | int,
        *arguments: int | bytes | In,
        to: int = _NOTHING,
        result: int = _FAILS,
        passes: int = 0,
        done: int = 0,
    ) -> At:
        """One system call. `to`: the slot of its result. `passes`, `done`: how many of the following are passed over when
        it may fail and does, and when it does not. The place of the first argument that is bytes; each ends with a 0."""
        number = name if isinstance(name, int) else _N[name]
        begin = len(self.data)
        kinds, words, held = 0, [], bytearray()
        first = At(begin + _OPERATION.size)
        for index, argument in enumerate(arguments):
            if isinstance(argument, Slot):
                kinds |= 1 << 2 * index
                words.append(int(argument))
                continue
            if isinstance(argument, bytes | In):
                inside = argument if isinstance(argument, In) else In(argument, 0)
                argument = At(begin + _OPERATION.size + len(held) + inside.offset)
                held += inside.data + bytes(8 - len(inside.data) % 8)
            if isinstance(argument, At):
                kinds |= 2 << 2 * index
                argument -= begin
            words.append(int(argument))
        words += [0] * (6 - len(words))
        size = _OPERATION.size + len(held)
        if size > _MOST_BYTES:
            raise NotSaid
        self.data += _OPERATION.pack(size, kinds, result, passes, done, to, number, 0, *words) + held
        return first

    def open(self, path: bytes, flags: int, mode: int = 0, *, at: int = c.AT_FDCWD, to: int = _A) -> None:
        self.call("openat", at, path, flags | os.O_CLOEXEC, mode, to=to)

    def open_in(self, root: int, path: bytes, resolve: int, *, flags: int = os.O_PATH, to: int = _B, **how: int) -> None:
        asked = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
        self.call(c.NR_OPENAT2, Slot(root), path, asked, len(asked), to=to, **how)

    def new_filesystem(self, kind: bytes, options: Sequence[tuple[bytes, bytes | None]], attributes: int, to: int) -> None:
        self.call(c.NR_FSOPEN, kind, c.FSOPEN_CLOEXEC, to=_C)
        for key, value in options:
            if value is None:
                self.call(c.NR_FSCONFIG, Slot(_C), c.FSCONFIG_SET_FLAG, key, 0, 0)
            else:
                self.call(c.NR_FSCONFIG, Slot(_C), c.FSCONFIG_SET_STRING, key, value, 0)
        self.call(c.NR_FSCONFIG, Slot(_C), c.FSCONFIG_CMD_CREATE, 0, 0, 0)
        self.call(c.NR_FSMOUNT, Slot(_C), c.FSMOUNT_CLOEXEC, attributes, to=to)

    def open_tree(self, directory: int, path: bytes, to: int, *, recursive: bool = False) -> None:
        flags = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC | (c.AT_RECURSIVE if recursive else 0)
        self.call(c.NR_OPEN_TREE, directory, path, flags | (0 if path else c.AT_EMPTY_PATH), to=to)

    def attach(self, mount: int, target: int, path: bytes = b"", *, result: int = _FAILS, done: int = 0) -> None:
        flags = c.MOVE_MOUNT_F_EMPTY_PATH | (0 if path else c.MOVE_MOUNT_T_EMPTY_PATH)
        self.call(c.NR_MOVE_MOUNT, Slot(mount), b"", target, path, flags, result=result, done=done)

    def set_attributes(
        self,
        mount: int,
        set_: int = 0,
        clear: int = 0,
        *,
        propagation: int = 0,
        userns: int = _NOTHING,
        recursive: bool = False,
        path: bytes = b"",
    ) -> None:
        mapped = userns != _NOTHING
        wanted = struct.pack("=QQQQ", set_ | (c.MOUNT_ATTR_IDMAP if mapped else 0), clear, propagation, 0)
        flags = (c.AT_RECURSIVE if recursive else 0) | (0 if path else c.AT_EMPTY_PATH)
        place: bytes | At = wanted
        if mapped:
            place = At(self.call(_STORE, In(wanted, 24), Slot(userns)))
        self.call(c.NR_MOUNT_SETATTR, mount, path, flags, place, len(wanted))

    def report(self, word: int) -> None:
        self.call("write", Slot(STATUS), REPORT.pack(word, 0), REPORT.size)


class Shape:
    """What the operations of a step depend on beside the step. `named`: slots of descriptors by name."""

    def __init__(self, names: Mapping[str, int], procs: int, program: Sequence[list[Any]]) -> None:
        self.named = {name: slot for name, slot in _SLOTS.items() if name in names}
        others = [name for name in names if name not in _SLOTS and name not in _OURS]
        if len(others) > _MOST_NAMED or procs > _MOST_PROCS:
            raise NotSaid
        self.named |= {name: _NAMED + number for number, name in enumerate(others)}
        self.procs = procs
        self.own_cgroup = any(
            name == "enter" or (name == "enter_some" and arguments[2] & c.CLONE_NEWCGROUP)
            for name, *arguments in program
            if name in ("enter", "enter_some")
        )
        self.descriptors: tuple[int, int] | None = None
        self.owners: dict[int, int] = {}

    @property
    def key(self) -> tuple[str | int, ...]:
        return (*self.named, self.procs, self.own_cgroup)


def _default_limits(do: Operations, shape: Shape, table: Sequence[tuple[int, int, int]]) -> None:
    for kind, soft, hard in table:
        own_soft, own_hard = own = resource.getrlimit(kind)
        if kind == resource.RLIMIT_NOFILE:
            shape.descriptors = (soft, hard)
            if limits.above(hard, own_hard):  # Nobody else may raise it later.
                do.call("prlimit64", 0, kind, _limit(own_soft, hard), 0, result=_MAY_FAIL)
        elif own != (soft, hard):
            _set_limit(do, kind, soft, hard, own_hard)


def _set_limit(do: Operations, kind: int, soft: int, hard: int, own_hard: int) -> None:
    """Or what is left of it (`limits.attainable`)."""
    lower = limits.above(hard, own_hard)
    do.call("prlimit64", 0, kind, _limit(soft, hard), 0, result=_MAY_FAIL if lower else _FAILS, done=int(lower))
    if lower:
        do.call("prlimit64", 0, kind, _limit(own_hard if limits.above(soft, own_hard) else soft, own_hard), 0)


def _limit(soft: int, hard: int) -> bytes:
    return struct.pack("=qq", soft, hard)


def _rlimit(do: Operations, shape: Shape, kind: int, soft: int, hard: int) -> None:
    if limits.above(soft, hard) or kind == resource.RLIMIT_NOFILE:
        raise NotSaid
    do.call("prlimit64", 0, kind, _limit(soft, hard), 0)


def _oom_score(do: Operations, shape: Shape, value: int) -> None:
    do.open(b"/proc/self/oom_score_adj", os.O_WRONLY)
    text = b"%d" % value
    do.call("write", Slot(_A), text, len(text))


def _overlay(do: Operations, shape: Shape, slot: int, lowers: list[int], bundle: str) -> None:
    upper = b"/c/" + os.fsencode(bundle)
    own = [(b"upperdir", upper + b"/upper"), (b"workdir", upper + b"/work")]
    do.new_filesystem(b"overlay", [*stage1.lower_options(lowers), *own], c.MOUNT_ATTR_NODEV, _mount(slot))


def _devices(do: Operations, shape: Shape, slot: int, options: list[list[str | None]], attributes: int, owner: int) -> None:
    dev = Slot(_mount(slot))
    do.new_filesystem(b"tmpfs", stage1.encode_options(options), attributes & ~c.MOUNT_ATTR_NODEV, dev)
    do.call("umask", 0)
    for name, major, minor in stage1.DEVICES:
        do.call("mknodat", dev, name.encode(), stat.S_IFCHR | 0o666, os.makedev(major, minor))
        do.call("fchownat", dev, name.encode(), owner, owner, 0)
    for name in stage1.DEV_FOLDERS:
        do.call("mkdirat", dev, name.encode(), 0o755)
        do.call("fchownat", dev, name.encode(), owner, owner, 0)
    for name, target in stage1.DEV_LINKS:
        do.call("symlinkat", target.encode(), dev, name.encode())
        do.call("fchownat", dev, name.encode(), owner, owner, _AT_SYMLINK_NOFOLLOW)
    if "stdin" not in shape.named:
        do.open(b"null", os.O_RDONLY, at=dev, to=STDIN)


_AT_SYMLINK_NOFOLLOW = 0x100


def _root_devices(do: Operations, shape: Shape, slot: int) -> None:
    do.set_attributes(Slot(_mount(slot)), clear=c.MOUNT_ATTR_NODEV)


def _to_host(do: Operations, shape: Shape) -> None:
    do.call("setns", Slot(HOST), c.CLONE_NEWNS)


def _to_home(do: Operations, shape: Shape) -> None:
    do.call("setns", Slot(OWN), c.CLONE_NEWNS)


def _ids(do: Operations, shape: Shape, slot: int, name: str) -> None:
    shape.owners[slot] = shape.named[name]


def _bind(do: Operations, shape: Shape, slot: int, source: str, recursive: bool, *how: Any) -> None:
    do.open_tree(c.AT_FDCWD, os.fsencode(source), _mount(slot), recursive=recursive)
    _adapt(do, shape, slot, recursive, *how)


def _bind_below(do: Operations, shape: Shape, slot: int, base: str, folder: str, recursive: bool, *how: Any) -> None:
    do.open(os.fsencode(base), os.O_PATH | os.O_DIRECTORY)
    do.open_in(_A, os.fsencode(folder), BELOW)
    do.open_tree(Slot(_B), b"", _mount(slot), recursive=recursive)
    _adapt(do, shape, slot, recursive, *how)


def _adapt(
    do: Operations, shape: Shape, slot: int, recursive: bool, set_: int, clear: int, propagation: int, idmap: bool
) -> None:
    userns = shape.owners.get(slot, USER) if idmap else _NOTHING
    do.set_attributes(Slot(_mount(slot)), set_, clear, propagation=propagation, userns=userns, recursive=recursive)


def _top_attributes(do: Operations, shape: Shape, slot: int, set_: int, clear: int) -> None:
    do.set_attributes(Slot(_mount(slot)), set_, clear)


def _propagate(do: Operations, shape: Shape, slot: int, propagation: int, recursive: bool) -> None:
    do.set_attributes(Slot(_mount(slot)), propagation=propagation, recursive=recursive)


def _enter(do: Operations, shape: Shape) -> None:
    _enter_some(do, shape, True, True, NAMESPACES & ~(c.CLONE_NEWUSER | c.CLONE_NEWNET), [])


def _enter_some(
    do: Operations, shape: Shape, user: bool, network: bool, kinds: int, joined: list[tuple[str, int]]
) -> None:
    do.call("keyctl", c.KEYCTL_JOIN_SESSION_KEYRING, 0)
    for name, kind in joined:
        do.call("setns", Slot(shape.named[name]), kind)
    if user:
        do.call("setns", Slot(USER), c.CLONE_NEWUSER)
    if network:
        do.call("setns", Slot(NET), c.CLONE_NEWNET)
    _become_root(do)
    flags = c.CLONE_PARENT | c.CLONE_PARENT_SETTID | (kinds & ~c.CLONE_NEWCGROUP if shape.procs else kinds)
    born = struct.pack("=11Q", flags, *[0] * 10)
    place = At(do.call(_STORE, In(born, 24), Slot(TELL)))
    do.call(c.NR_CLONE3, place, len(born), result=_DIVIDES)
    do.set_attributes(c.AT_FDCWD, propagation=c.MS_PRIVATE, recursive=True, path=b"/")


def _become_root(do: Operations) -> None:
    do.call("setgroups", 0, 0)
    do.call("setresgid", 0, 0, 0)
    do.call("setresuid", 0, 0, 0)


def _join(do: Operations, shape: Shape) -> None:
    _join_some(do, shape, NAMESPACES)


def _join_some(do: Operations, shape: Shape, kinds: int) -> None:
    do.call("keyctl", c.KEYCTL_JOIN_SESSION_KEYRING, 0)
    do.call("setns", Slot(WITHIN), kinds)
    _become_root(do)
    do.open(b"/", os.O_PATH | os.O_DIRECTORY, to=ROOT)


def _joined(do: Operations, shape: Shape) -> None:
    for number in range(shape.procs):
        do.call("write", Slot(_PROCS + number), b"0", 1)
    if shape.procs and shape.own_cgroup:
        do.call("unshare", c.CLONE_NEWCGROUP)


def _take_root(do: Operations, shape: Shape, slot: int) -> None:
    do.attach(_mount(slot), c.AT_FDCWD, b"/r")
    do.open(b"/r", os.O_PATH | os.O_DIRECTORY, to=ROOT)


def _attach(do: Operations, shape: Shape, slot: int, target: str) -> None:
    _put(do, _mount(slot), target)


def _put(do: Operations, tree: int, target: str, made: str = "") -> None:
    """`made`: the call that makes the last name of `target` where that is missing; without it, it has to be there. Of what
    somebody else made (a bind) nobody knows yet whether it is a folder."""
    place = os.fsencode(target)
    above, _, name = place.rstrip(b"/").rpartition(b"/")
    if not made or name in (b"", b".", b".."):
        do.open_in(ROOT, place, IN_ROOT)
    else:
        do.open_in(ROOT, place, IN_ROOT, result=_MAY_MISS, done=3 if made == "mkdirat" else 4)
        do.open_in(ROOT, above or b"/", IN_ROOT, flags=os.O_RDONLY | os.O_DIRECTORY)
        if made == "mkdirat":
            do.call(made, Slot(_B), name, 0o755)
        else:
            do.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, at=Slot(_B), to=_E)
            do.call("close", Slot(_E))  # What is open for writing keeps its mount from becoming read-only.
        do.open_in(ROOT, place, IN_ROOT)
    do.attach(tree, Slot(_B))


def _filesystem(
    do: Operations, shape: Shape, kind: str, options: list[list[str | None]], attributes: int, target: str
) -> None:
    tree = PROC if kind == "proc" else _A
    do.new_filesystem(os.fsencode(kind), stage1.encode_options(options), attributes, tree)
    _put(do, tree, target, "mkdirat")


def _files(do: Operations, shape: Shape, files: list[list[Any]]) -> None:
    _make_files(do, [[*file, 0, 0] for file in files], b"1m")


def _owned_files(do: Operations, shape: Shape, files: list[list[Any]]) -> None:
    _make_files(do, files, b"%d" % sum(len(file[2]) + 8192 for file in files))


def _make_files(do: Operations, files: list[list[Any]], size: bytes) -> None:
    attributes = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV
    do.new_filesystem(b"tmpfs", [(b"mode", b"0755"), (b"size", size)], attributes, _D)
    do.attach(_D, c.AT_FDCWD, b"/f")
    for number, (target, mode, content, uid, gid) in enumerate(files):
        name, data = b"%d" % number, a2b_base64(content)
        do.open(name, os.O_CREAT | os.O_WRONLY, mode, at=Slot(_D))
        do.call("write", Slot(_A), data, len(data))
        do.call("fchown", Slot(_A), uid, gid)
        do.call("fchmod", Slot(_A), mode)
        do.call("close", Slot(_A))
        do.open_tree(Slot(_D), name, _C)
        _put(do, _C, target, "openat")


def _sysctl(do: Operations, shape: Shape, path: str, value: str) -> None:
    do.open(os.fsencode(f"sys/{path}"), os.O_WRONLY | os.O_NOFOLLOW, at=Slot(PROC))
    text = os.fsencode(value)
    do.call("write", Slot(_A), text, len(text))


def _mask(do: Operations, shape: Shape, path: str) -> None:
    do.open_in(ROOT, os.fsencode(path), IN_ROOT, result=_MAY_MISS, passes=4)
    do.open_tree(c.AT_FDCWD, b"/d/null", _A)
    do.attach(_A, Slot(_B), result=_MAY_FAIL, done=2)  # Not over a folder.
    do.open_tree(c.AT_FDCWD, b"/d/empty", _A)
    do.attach(_A, Slot(_B))


def _read_only(do: Operations, shape: Shape, path: str) -> None:
    do.open_in(ROOT, os.fsencode(path), IN_ROOT, result=_MAY_MISS, passes=3)
    do.open_tree(Slot(_B), b"", _A, recursive=True)
    do.set_attributes(Slot(_A), c.MOUNT_ATTR_RDONLY, recursive=True)
    do.attach(_A, Slot(_B))


def _make_read_only(do: Operations, shape: Shape, path: str) -> None:
    do.open_in(ROOT, os.fsencode(path), IN_ROOT)
    do.set_attributes(Slot(_B), c.MOUNT_ATTR_RDONLY)


def _root_read_only(do: Operations, shape: Shape) -> None:
    do.set_attributes(Slot(ROOT), c.MOUNT_ATTR_RDONLY)


def _hostname(do: Operations, shape: Shape, name: str, domain: str) -> None:
    for call, text in (("sethostname", os.fsencode(name)), ("setdomainname", os.fsencode(domain))):
        if text:
            do.call(call, text, len(text))


def _pivot(do: Operations, shape: Shape) -> None:
    do.call("fchdir", Slot(ROOT))
    do.call("pivot_root", b".", b".")
    do.call("umount2", b".", c.MNT_DETACH)
    do.call("chdir", b"/")


def _session(do: Operations, shape: Shape) -> None:
    do.call("setsid")


def _stdio(do: Operations, shape: Shape) -> None:
    for number, (name, slot) in enumerate((("stdin", STDIN), ("stdout", STDOUT), ("stderr", STDERR))):
        # Without a stdin of its own a run has what `devices` opened.
        own = name in shape.named or (name == "stdin" and "target" not in shape.named)
        do.call("dup3", Slot(slot if own else NULL), number, 0)


_CWD_BYTES = 248


def _change_directory(do: Operations, shape: Shape, path: str) -> None:
    do.open_in(ROOT, os.fsencode(path), IN_ROOT, flags=os.O_PATH | os.O_DIRECTORY)
    do.call("fchdir", Slot(_B))
    place = do.call("getcwd", bytes(_CWD_BYTES), _CWD_BYTES)
    do.call(_BYTE, place, ord("/"))


def _bounding(do: Operations, shape: Shape, keep: list[int], last: int) -> None:
    for bit in range(last + 1):
        if bit not in keep:
            do.call("prctl", c.PR_CAPBSET_DROP, bit)


def _identity(do: Operations, shape: Shape, uid: int, gid: int, groups: list[int]) -> None:
    if uid:
        do.call("prctl", c.PR_SET_KEEPCAPS, 1)
    do.call("setgroups", len(groups), struct.pack(f"={len(groups)}I", *groups))
    do.call("setresgid", gid, gid, gid)
    do.call("setresuid", uid, uid, uid)


def _capabilities(do: Operations, shape: Shape, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    sets = (effective, permitted, inheritable)
    masks = struct.pack("=6I", *(mask & 0xFFFFFFFF for mask in sets), *(mask >> 32 for mask in sets))
    do.call("capset", struct.pack("=Ii", c.CAPABILITY_VERSION_3, 0), masks)
    do.call("prctl", c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_CLEAR_ALL)
    for bit in range(64):
        if ambient >> bit & 1:
            do.call("prctl", c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, bit)


def _no_new_privileges(do: Operations, shape: Shape) -> None:
    do.call("prctl", c.PR_SET_NO_NEW_PRIVS, 1)


def _seccomp(do: Operations, shape: Shape, program: str) -> None:
    _seccomp_flags(do, shape, program, 0)


def _seccomp_flags(do: Operations, shape: Shape, program: str, flags: int) -> None:
    code = a2b_base64(program)
    # struct sock_fprog: how many instructions of eight bytes, and where they are, which is right behind it.
    filter_ = struct.pack("=H6xq", len(code) // 8, _OPERATION.size + 16) + code
    place = do.call(_PLACES, In(filter_, 8), 1)
    do.call("seccomp", c.SECCOMP_SET_MODE_FILTER, flags, place)


def _execute(do: Operations, shape: Shape, argv: list[str], environment: list[str], umask: int) -> None:
    do.call("umask", umask)
    if shape.descriptors is not None:
        _set_limit(do, resource.RLIMIT_NOFILE, *shape.descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    do.call("dup3", Slot(STATUS), 3, os.O_CLOEXEC, to=STATUS)
    if "gate" in shape.named:
        do.call("dup3", Slot(GATE), 4, os.O_CLOEXEC)
    do.call(c.NR_CLOSE_RANGE, 5 if "gate" in shape.named else 4, 0xFFFFFFFF, 0)
    if "gate" in shape.named:
        do.report(READY)
        do.call("read", 4, bytes(8), 1, result=_GATE)
    do.report(EXECUTING)
    variables: dict[bytes, bytes] = {}
    for text in environment:
        name, _, value = os.fsencode(text).partition(b"=")
        variables[name] = value
    words = [os.fsencode(text) for text in argv]
    argument_place, variable_place = _vectors(do, words, [name + b"=" + value for name, value in variables.items()])
    command = words[0]
    if b"/" in command:
        found = [command]
    elif command:
        found = [
            (folder or b".") + b"/" + command for folder in variables.get(b"PATH", DEFAULT_PATH).split(b":")
        ]
    else:
        raise NotSaid
    for path in found[:-1]:
        do.call("execve", path, argument_place, variable_place, result=_MAY_MISS)
    do.call("execve", found[-1], argument_place, variable_place)


def _vectors(do: Operations, arguments: list[bytes], variables: list[bytes]) -> tuple[At, At]:
    """argv and envp of execve(2): where each is."""
    count = len(arguments) + len(variables) + 2
    texts, places = bytearray(), []
    # The two empty ones are no places: they are made 0 again.
    for text in (*arguments, b"", *variables, b""):
        places.append(_OPERATION.size + 8 * count + len(texts))
        texts += text + b"\0"
    base = do.call(_PLACES, struct.pack(f"={count}q", *places) + bytes(texts), count)
    middle, end = At(base + 8 * len(arguments)), At(base + 8 * (count - 1))
    for place in (middle, end):
        do.call(_STORE, place, 0)
    return base, At(middle + 8)


_STEPS: dict[str, Callable[..., None]] = {
    "default_limits": _default_limits,
    "rlimit": _rlimit,
    "oom_score": _oom_score,
    "overlay": _overlay,
    "devices": _devices,
    "root_devices": _root_devices,
    "to_host": _to_host,
    "to_home": _to_home,
    "ids": _ids,
    "bind": _bind,
    "bind_below": _bind_below,
    "top_attributes": _top_attributes,
    "propagate": _propagate,
    "enter": _enter,
    "enter_some": _enter_some,
    "join": _join,
    "join_some": _join_some,
    "joined": _joined,
    "take_root": _take_root,
    "attach": _attach,
    "filesystem": _filesystem,
    "files": _files,
    "owned_files": _owned_files,
    "sysctl": _sysctl,
    "mask": _mask,
    "read_only": _read_only,
    "make_read_only": _make_read_only,
    "root_read_only": _root_read_only,
    "hostname": _hostname,
    "pivot": _pivot,
    "session": _session,
    "stdio": _stdio,
    "working_directory": _change_directory,
    "change_directory": _change_directory,
    "bounding": _bounding,
    "identity": _identity,
    "capabilities": _capabilities,
    "no_new_privileges": _no_new_privileges,
    "seccomp": _seccomp,
    "seccomp_flags": _seccomp_flags,
    "execute": _execute,
}
_EACH_ITS_OWN = frozenset(
    {"default_limits", "overlay", "ids", "bind", "bind_below", "files", "owned_files", "hostname", "execute"}
)
"""Of these nothing is kept: they differ from container to container, or say something about a later step."""


def _mount(slot: int) -> int:
    if not 0 <= slot < _MOST_MOUNTS:
        raise NotSaid
    return _MOUNTS + slot


class Translator:
    """Keeps what it has said of a step: most steps are the same for all containers of a project."""

    def __init__(self) -> None:
        self._kept: dict[bytes, bytes] = {}

    def packet(
        self, number: int, program: Sequence[list[Any]], status: int, named: Mapping[str, int], procs: Sequence[int]
    ) -> tuple[bytes, list[int]]:
        """What the starter is sent for the start `number`: packet and descriptors. Raises NotSaid."""
        shape = Shape(named, len(procs), program)
        about = shape.key
        parts = [b""]
        if "before" in shape.named:
            parts.append(_waiting())
        for step in program:
            if step[0] in _EACH_ITS_OWN:
                parts.append(_said(shape, step))
                continue
            key = marshal.dumps([about, step], _PLAIN_MARSHAL)
            if (part := self._kept.get(key)) is None:
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                part = self._kept[key] = _said(shape, step)
            parts.append(part)
        fds = [status, *(named[name] for name in shape.named), *procs]
        slots = bytes([STATUS, *shape.named.values(), *range(_PROCS, _PROCS + len(procs))])
        parts[0] = _HEAD.pack(number, len(fds), slots)
        packet = b"".join(parts)
        if len(packet) > _MOST_BYTES:
            raise NotSaid
        return packet, fds


def _said(shape: Shape, step: Sequence[Any]) -> bytes:
    if (say := _STEPS.get(step[0])) is None:
        raise NotSaid
    do = Operations()
    say(do, shape, *step[1:])
    return bytes(do.data)


def _waiting() -> bytes:
    do = Operations()
    do.call("read", Slot(BEFORE), bytes(8), 1, result=_GATE)
    return bytes(do.data)
