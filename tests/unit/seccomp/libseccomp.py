"""libseccomp by ctypes (seccomp_init(3) and the pages after it): the second opinion on what a profile means."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

ARCH_TOKENS = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
_OCI_ARCH = {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "i386", "SCMP_ARCH_AARCH64": "aarch64"}
_ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPS = {
    name: number
    for number, name in enumerate(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"], start=1)
}


class _Arg(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


@cache
def library() -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        return None
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_init.argtypes = [ctypes.c_uint32]
    for name in ("seccomp_release", "seccomp_arch_add", "seccomp_arch_remove", "seccomp_export_bpf"):
        getattr(found, name).argtypes = [ctypes.c_void_p, ctypes.c_uint32][: 1 if name == "seccomp_release" else 2]
    found.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Arg),
    ]
    return found


def number_of(name: str, arch: str) -> int:
    """The number, or a negative one when it does not know the call there."""
    lib = library()
    assert lib is not None
    return int(lib.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(ARCH_TOKENS[arch]), name.encode()))


def compile_with_libseccomp(profile: Mapping[str, Any]) -> bytes:
    """The profile as libseccomp compiles it, for exactly the profile's architectures."""
    lib = library()
    assert lib is not None
    context = lib.seccomp_init(_action(profile["defaultAction"], profile.get("defaultErrnoRet")))
    assert context
    try:
        wanted = {ARCH_TOKENS[_OCI_ARCH[name]] for name in profile["architectures"]}
        for token in wanted:
            # EEXIST: the native one is there already.
            assert lib.seccomp_arch_add(context, token) in (0, -17)
        for token in set(ARCH_TOKENS.values()) - wanted:
            lib.seccomp_arch_remove(context, token)
        for entry in profile["syscalls"]:
            for name in entry["names"]:
                _add(lib, context, name, _action(entry["action"], entry.get("errnoRet")), entry.get("args") or ())
        with tempfile.TemporaryFile() as file:
            assert lib.seccomp_export_bpf(context, file.fileno()) == 0
            return os.pread(file.fileno(), 1 << 20, 0)
    finally:
        lib.seccomp_release(context)


def _action(name: str, errno: int | None) -> int:
    data = (1 if errno is None else errno) if name == "SCMP_ACT_ERRNO" else 0
    return _ACTIONS[name] | data


def _add(lib: ctypes.CDLL, context: int, name: str, action: int, args: Sequence[Mapping[str, Any]]) -> None:
    number = int(lib.seccomp_syscall_resolve_name(name.encode()))
    if number == -1:
        return
    array = (_Arg * max(1, len(args)))()
    for position, arg in enumerate(args):
        op = _OPS[arg["op"].removeprefix("SCMP_CMP_")]
        array[position] = _Arg(arg["index"], op, arg["value"], arg.get("valueTwo", 0))
    result = lib.seccomp_rule_add_array(context, action, number, len(args), array)
    assert result == 0, f"seccomp_rule_add({name}, {args}): {result}"
