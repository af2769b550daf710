"""The default filter, installed in a forked child of this kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable

import pytest

from orchestrator.kernel import seccomp_syscalls as tables
from orchestrator.kernel.process import install_seccomp, set_no_new_privileges
from orchestrator.kernel.seccomp import compile_filter
from orchestrator.oci.seccomp_profile import default_profile

pytestmark = pytest.mark.kernel

MACHINE = os.uname().machine
NUMBERS = {"x86_64": tables.X86_64, "aarch64": tables.AARCH64}


def errno_of(name: str, *args: int) -> Callable[[], int]:
    """The errno of a raw call, 0 when it works."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = NUMBERS[MACHINE][name]

    def attempt() -> int:
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(arg) for arg in args])
        return ctypes.get_errno() if result == -1 else 0

    return attempt


def confined(attempt: Callable[[], int]) -> int:
    """What `attempt` returns in a child with the default filter; minus the signal when the filter killed it."""
    program = compile_filter(default_profile(MACHINE), MACHINE)
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            set_no_new_privileges()
            install_seccomp(program)
            code = attempt()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def test_ordinary_calls_work() -> None:
    def ordinary() -> int:
        with open("/proc/self/status") as file:
            assert "Seccomp:\t2" in file.read()
        read, write = socket.socketpair()
        write.send(b"x")
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        _, status = os.waitpid(pid, 0)
        return 0 if read.recv(1) == b"x" and os.waitstatus_to_exitcode(status) == 7 else 1

    assert confined(ordinary) == 0


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("unshare", (0x10000000,), errno.EPERM),
        ("mount", (0, 0, 0, 0, 0), errno.EPERM),
        ("bpf", (0, 0, 0), errno.EPERM),
        ("keyctl", (0, 0), errno.EPERM),
        ("io_uring_setup", (1, 0), errno.EPERM),
        ("clone3", (0, 0), errno.ENOSYS),
        ("clone", (0x10000000 | 17, 0, 0, 0, 0), errno.EPERM),
        ("socket", (38, 5, 0), errno.EPERM),
        ("socket", ((1 << 32) | 38, 5, 0), errno.EPERM),
        ("socket", (40, 1, 0), errno.EPERM),
        ("personality", (0x0040000,), errno.EPERM),
        ("personality", (0xFFFFFFFF,), 0),
        ("getpid", (), 0),
    ],
)
def test_the_kernel_answers_as_the_profile_says(name: str, args: tuple[int, ...], expected: int) -> None:
    assert confined(errno_of(name, *args)) == expected


def test_a_call_newer_than_the_tables_is_not_implemented() -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def attempt() -> int:
        return ctypes.get_errno() if libc.syscall(ctypes.c_long(max(NUMBERS[MACHINE].values()) + 1)) == -1 else 0

    assert confined(attempt) == errno.ENOSYS
