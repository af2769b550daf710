"""Operations: what they are made of, and what is said of them beside the step."""

from __future__ import annotations

import os
import struct

from orchestrator.kernel import constants as c
from orchestrator.runtime.monitor.stage1 import REPORT

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Mapping, Sequence
    from typing import Any

_BY_MACHINE = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "umask": 95, "dup3": 292, "fchdir": 81, "chdir": 80, "getcwd": 79,
        "mkdirat": 258, "mknodat": 259, "fchownat": 260, "fchown": 93, "fchmod": 91, "symlinkat": 266, "openat": 257,
        "setsid": 112, "sethostname": 170, "setdomainname": 171, "pivot_root": 155, "umount2": 166, "prctl": 157,
        "capset": 126, "setgroups": 116, "setresuid": 117, "setresgid": 119, "setns": 308, "unshare": 272,
        "keyctl": 250, "prlimit64": 302, "execve": 59, "seccomp": 317, "rt_sigaction": 13,
    },
}  # fmt: skip
NUMBERS: Mapping[str, int] = _BY_MACHINE.get(c.MACHINE, {})

STATUS, USER, NET, CGROUP, WITHIN, TELL, HOST, OWN, NULL, STDIN, STDOUT, STDERR, GATE, BEFORE, ROOT, PROC = range(16)
"""Slots; those up to `NULL` are known to the starter."""
A, B, C, D, E = range(16, 21)
"""For what is needed a few operations long."""
PROCS, _MOST_PROCS = 24, 16
_NAMED, _MOST_NAMED = 40, 8
_MOUNTS, _MOST_MOUNTS = 48, 80
_SLOTS = {
    "user": USER, "net": NET, "cgroup": CGROUP, "target": WITHIN, "stdin": STDIN, "stdout": STDOUT, "stderr": STDERR,
    "gate": GATE, "before": BEFORE,
}  # fmt: skip
_OURS = frozenset({"out", "err"})
"""Descriptors of the monitor's own."""

FAILS, MAY_MISS, MAY_FAIL, PASSES_GATE, DIVIDES, MISSES = range(6)
"""What becomes of a result: an error ends it; what is not there is passed over; so is any error; 0 ends it in silence;
anything but 0 is the parent, which ends; an error ends it, but for ENOENT."""
STORE, PLACES, BYTE = -1, -2, -3
OPERATION = struct.Struct("<HHBBBBiI6q")
NOTHING = 0xFF
HEAD = struct.Struct("<II8x64s")
MOST_BYTES = 60_000


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
        to: int = NOTHING,
        result: int = FAILS,
        passes: int = 0,
        done: int = 0,
    ) -> At:
        """One system call. `to`: the slot of its result. `passes`, `done`: how many of the following are passed over when
        it may fail and does, and when it does not. The place of the first argument that is bytes; each ends with a 0."""
        number = name if isinstance(name, int) else NUMBERS[name]
        begin = len(self.data)
        kinds, words, held = 0, [], bytearray()
        first = At(begin + OPERATION.size)
        for index, argument in enumerate(arguments):
            if isinstance(argument, Slot):
                kinds |= 1 << 2 * index
                words.append(int(argument))
                continue
            if isinstance(argument, bytes | In):
                inside = argument if isinstance(argument, In) else In(argument, 0)
                argument = At(begin + OPERATION.size + len(held) + inside.offset)
                held += inside.data + bytes(8 - len(inside.data) % 8)
            if isinstance(argument, At):
                kinds |= 2 << 2 * index
                argument -= begin
            words.append(int(argument))
        words += [0] * (6 - len(words))
        size = OPERATION.size + len(held)
        if size > MOST_BYTES:
            raise NotSaid
        self.data += OPERATION.pack(size, kinds, result, passes, done, to, number, 0, *words) + held
        return first

    def open(self, path: bytes, flags: int, mode: int = 0, *, at: int = c.AT_FDCWD, to: int = A) -> None:
        self.call("openat", at, path, flags | os.O_CLOEXEC, mode, to=to)

    def open_in(self, root: int, path: bytes, resolve: int, *, flags: int = os.O_PATH, to: int = B, **how: int) -> None:
        asked = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
        self.call(c.NR_OPENAT2, Slot(root), path, asked, len(asked), to=to, **how)

    def new_filesystem(self, kind: bytes, options: Sequence[tuple[bytes, bytes | None]], attributes: int, to: int) -> None:
        self.call(c.NR_FSOPEN, kind, c.FSOPEN_CLOEXEC, to=C)
        for key, value in options:
            if value is None:
                self.call(c.NR_FSCONFIG, Slot(C), c.FSCONFIG_SET_FLAG, key, 0, 0)
            else:
                self.call(c.NR_FSCONFIG, Slot(C), c.FSCONFIG_SET_STRING, key, value, 0)
        self.call(c.NR_FSCONFIG, Slot(C), c.FSCONFIG_CMD_CREATE, 0, 0, 0)
        self.call(c.NR_FSMOUNT, Slot(C), c.FSMOUNT_CLOEXEC, attributes, to=to)

    def open_tree(self, directory: int, path: bytes, to: int, *, recursive: bool = False) -> None:
        flags = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC | (c.AT_RECURSIVE if recursive else 0)
        self.call(c.NR_OPEN_TREE, directory, path, flags | (0 if path else c.AT_EMPTY_PATH), to=to)

    def attach(self, mount: int, target: int, path: bytes = b"") -> None:
        flags = c.MOVE_MOUNT_F_EMPTY_PATH | (0 if path else c.MOVE_MOUNT_T_EMPTY_PATH)
        self.call(c.NR_MOVE_MOUNT, Slot(mount), b"", target, path, flags)

    def set_attributes(
        self,
        mount: int,
        set_: int = 0,
        clear: int = 0,
        *,
        propagation: int = 0,
        userns: int = NOTHING,
        recursive: bool = False,
        path: bytes = b"",
    ) -> None:
        mapped = userns != NOTHING
        wanted = struct.pack("=QQQQ", set_ | (c.MOUNT_ATTR_IDMAP if mapped else 0), clear, propagation, 0)
        flags = (c.AT_RECURSIVE if recursive else 0) | (0 if path else c.AT_EMPTY_PATH)
        place: bytes | At = wanted
        if mapped:
            place = self.call(STORE, In(wanted, 24), Slot(userns))
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
            name == "enter" or (name == "enter_some" and arguments[2] & c.CLONE_NEWCGROUP) for name, *arguments in program
        )
        self.fixed_files = any(name == "files_read_only" for name, *_ in program)
        self.descriptors: tuple[int, int] | None = None
        self.owners: dict[int, int] = {}

    @property
    def key(self) -> tuple[str | int, ...]:
        return (*self.named, self.procs, self.own_cgroup)


def mount_slot(slot: int) -> int:
    """Where the mount that the program calls `slot` is."""
    if not 0 <= slot < _MOST_MOUNTS:
        raise NotSaid
    return _MOUNTS + slot
