"""Classic BPF as seccomp runs it, enough to ask a filter what it would say (linux/filter.h, seccomp(2))."""

from __future__ import annotations

import struct
from collections.abc import Sequence

AUDIT_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}


def verdict(filter_bytes: bytes, arch: str | int, number: int, args: Sequence[int] = ()) -> int:
    """What the filter returns for a call. Raises AssertionError for a program the kernel would refuse."""
    audit = arch if isinstance(arch, int) else AUDIT_ARCH[arch]
    padded = [*args, *[0] * (6 - len(args))]
    data = struct.pack("=IIQ6Q", number, audit, 0, *padded)
    program = list(struct.iter_unpack("=HBBI", filter_bytes))
    accumulator = index = at = 0
    memory = [0] * 16
    for _ in range(len(program)):
        code, jump_true, jump_false, operand = program[at]
        at += 1
        match code:
            case 0x20:
                assert operand % 4 == 0
                accumulator = int(struct.unpack_from("=I", data, operand)[0])
            case 0x05:
                at += operand
            case 0x15 | 0x25 | 0x35 | 0x45:
                taken = {
                    0x15: accumulator == operand,
                    0x25: accumulator > operand,
                    0x35: accumulator >= operand,
                    0x45: bool(accumulator & operand),
                }[code]
                at += jump_true if taken else jump_false
            case 0x54:
                accumulator &= operand
            case 0x02:
                memory[operand] = accumulator
            case 0x60:
                accumulator = memory[operand]
            case 0x07:
                index = accumulator
            case 0x06:
                return int(operand)
            case other:
                raise AssertionError(f"instruction {other:#x} at {at - 1}, X={index}")
    raise AssertionError("the program does not end")


def check_shape(filter_bytes: bytes) -> None:
    """Jumps go forward and stay inside, and the last instruction returns: what the kernel's checker wants."""
    program = list(struct.iter_unpack("=HBBI", filter_bytes))
    assert 0 < len(program) <= 4096
    for at, (code, jump_true, jump_false, operand) in enumerate(program):
        if code == 0x05:
            assert at + 1 + operand < len(program)
        elif code & 0x07 == 0x05:
            assert at + 1 + max(jump_true, jump_false) < len(program)
    assert program[-1][0] == 0x06
