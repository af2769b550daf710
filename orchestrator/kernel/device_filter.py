"""Which devices the processes of a v2 group may use: a BPF program (cgroup-v2.rst, "Device controller"; bpf(2)).

The program sees one access at a time: what is to be done with which device. The last rule that fits it decides, and nothing
fits: it is refused. A rule that allows fits where it allows all that is asked for, one that refuses where it refuses any.
"""

from __future__ import annotations

import ctypes
import os
import struct

from orchestrator.kernel.syscalls import call, number_of
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ANY = -1
BLOCK, CHARACTER = 1, 2
"""BPF_DEVCG_DEV_*; 0 is no kind: ANY of them."""
MKNOD, READ, WRITE = 1, 2, 4
"""BPF_DEVCG_ACC_* (linux/bpf.h)."""
WHOLE = MKNOD | READ | WRITE

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_CGROUP_DEVICE_PROGRAM, _CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
_MOST_PROGRAMS = 64

_LOAD_WORD, _MOVE, _MOVE_CONSTANT, _AND, _SHIFT_RIGHT = 0x61, 0xBF, 0xB7, 0x57, 0x77
_JUMP_EQUAL, _JUMP_UNEQUAL, _JUMP_UNEQUAL_WORD, _JUMP_UNEQUAL_REGISTER, _EXIT = 0x15, 0x55, 0x56, 0x5D, 0x95
"""BPF instruction codes (Documentation/bpf/standardization/instruction-set.rst)."""
_RESULT, _SCRATCH, _KIND, _ACCESS, _MAJOR, _MINOR = range(6)
"""Registers. The context comes in the scratch register."""

Instruction = tuple[int, int, int, int, int]
"""Code, destination, source, offset, constant."""


@frozen
class DeviceFilterRule:
    allow: bool
    kind: int = 0
    major: int = ANY
    minor: int = ANY
    access: int = WHOLE

    @property
    def devices(self) -> tuple[int, int, int]:
        return self.kind, self.major, self.minor

    @property
    def is_for_all(self) -> bool:
        return self.devices == (0, ANY, ANY) and self.access == WHOLE


def program_of(rules: Sequence[DeviceFilterRule]) -> list[Instruction]:
    program: list[Instruction] = [
        (_LOAD_WORD, _KIND, _SCRATCH, 0, 0),
        (_MOVE, _ACCESS, _KIND, 0, 0),
        (_AND, _KIND, 0, 0, 0xFFFF),
        (_SHIFT_RIGHT, _ACCESS, 0, 0, 16),
        (_LOAD_WORD, _MAJOR, _SCRATCH, 4, 0),
        (_LOAD_WORD, _MINOR, _SCRATCH, 8, 0),
    ]
    for rule in reversed(rules):
        program += _rule(rule)
        if rule.is_for_all:
            return program  # What stands before it never decides, and the verifier refuses code that is never reached.
    return [*program, (_MOVE_CONSTANT, _RESULT, 0, 0, 0), (_EXIT, 0, 0, 0, 0)]


def _rule(rule: DeviceFilterRule) -> list[Instruction]:
    """The checks, each of which leaves behind the rule when it fails, then the verdict. Built from its end."""
    program: list[Instruction] = [(_MOVE_CONSTANT, _RESULT, 0, 0, int(rule.allow)), (_EXIT, 0, 0, 0, 0)]
    for register, number in ((_MINOR, rule.minor), (_MAJOR, rule.major)):
        if number != ANY:
            program = [(_JUMP_UNEQUAL_WORD, register, 0, len(program), _signed(number)), *program]
    if rule.access != WHOLE:
        asked = [(_MOVE, _SCRATCH, _ACCESS, 0, 0), (_AND, _SCRATCH, 0, 0, rule.access)]
        if rule.allow:
            program = [*asked, (_JUMP_UNEQUAL_REGISTER, _SCRATCH, _ACCESS, len(program), 0), *program]
        else:
            program = [*asked, (_JUMP_EQUAL, _SCRATCH, 0, len(program), 0), *program]
    if rule.kind:
        program = [(_JUMP_UNEQUAL, _KIND, 0, len(program), rule.kind), *program]
    return program


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number


def assemble(program: Sequence[Instruction]) -> bytes:
    return b"".join(
        struct.pack("=BBhi", code, source << 4 | destination, offset, constant)
        for code, destination, source, offset, constant in program
    )


def attach(group: int, rules: Sequence[DeviceFilterRule]) -> None:
    """These rules, and no others, for the v2 group whose directory `group` is. Raises OSError."""
    code = ctypes.create_string_buffer(assemble(program_of(rules)))
    license_ = ctypes.create_string_buffer(b"none")
    count = (len(code) - 1) // 8
    old = _attached(group)
    load = struct.pack(
        "=IIQQIIQII16s", _CGROUP_DEVICE_PROGRAM, count, ctypes.addressof(code), ctypes.addressof(license_),
        0, 0, 0, 0, 0, b"pystack_devices",
    )  # fmt: skip
    program = _bpf(_PROG_LOAD, load)
    try:
        _bpf(_PROG_ATTACH, struct.pack("=IIIII", group, program, _CGROUP_DEVICE, _ALLOW_MULTI, 0))
        for number in old:
            before = _bpf(_PROG_GET_FD_BY_ID, struct.pack("=III", number, 0, 0))
            try:
                _bpf(_PROG_DETACH, struct.pack("=IIII", group, before, _CGROUP_DEVICE, 0))
            finally:
                os.close(before)
    finally:
        os.close(program)


def _attached(group: int) -> list[int]:
    """The numbers of the programs that the group has itself."""
    numbers = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    query = bytearray(
        struct.pack("=IIIIQI4x", group, _CGROUP_DEVICE, 0, 0, ctypes.addressof(numbers), _MOST_PROGRAMS)
    )
    buffer = (ctypes.c_char * len(query)).from_buffer(query)
    call(number_of("bpf"), _PROG_QUERY, buffer, len(query))
    return list(numbers[: struct.unpack_from("=I", query, 24)[0]])


def _bpf(command: int, attributes: bytes) -> int:
    return call(number_of("bpf"), command, attributes, len(attributes))
