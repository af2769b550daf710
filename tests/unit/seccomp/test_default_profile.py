"""The default profile as it comes out of the compiler: what is refused, and agreement with libseccomp on every number."""

from __future__ import annotations

import pytest

from orchestrator.kernel import seccomp_syscalls as tables
from orchestrator.kernel.seccomp import compile_filter
from orchestrator.oci.seccomp_profile import ALLOWED, ARCHITECTURES, default_profile
from tests.unit.seccomp import libseccomp
from tests.unit.seccomp.bpf import check_shape, verdict

ALLOW = 0x7FFF0000
EPERM, ENOSYS = 0x00050001, 0x00050026
NUMBERS = {"x86_64": tables.X86_64, "i386": tables.I386, "aarch64": tables.AARCH64}
ARGUMENTS = [
    [0],
    [1],
    [38],
    [(1 << 32) + 38],
    [40],
    [(5 << 32) + 40],
    [2],
    [16],
    [0xFFFFFFFF],
    [0x20008],
    [0x40000],
    [0x1200011],
    [0x10000000],
    [(1 << 64) - 1] * 6,
]


def answer(name: str, *args: int, arch: str = "x86_64") -> int:
    machine = "aarch64" if arch == "aarch64" else "x86_64"
    return verdict(compile_filter(default_profile(machine), machine), arch, NUMBERS[arch][name], args)


@pytest.mark.skipif(libseccomp.library() is None, reason="no libseccomp.so.2 here")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_libseccomp_agrees_on_every_number_it_knows(machine: str) -> None:
    profile = default_profile(machine)
    ours, theirs = compile_filter(profile, machine), libseccomp.compile_with_libseccomp(profile)
    assert len(ours) < len(theirs) * 2
    compared = 0
    for arch in ("x86_64", "i386") if machine == "x86_64" else ("aarch64",):
        for name, number in NUMBERS[arch].items():
            if libseccomp.number_of(name, arch) < 0 or (arch, name) == ("i386", "socketcall"):
                # Calls it does not know give EPERM there and what the profile says here. It reaches i386's socket calls
                # by socketcall too, and opens that for them; ours is tested below.
                continue
            for args in ARGUMENTS:
                # The kernel gives 32-bit calls' arguments without an upper half, and libseccomp does not look at it there.
                given = [arg & 0xFFFFFFFF for arg in args] if arch == "i386" else args
                compared += 1
                assert verdict(ours, arch, number, given) == verdict(theirs, arch, number, given), (arch, name, given)
    assert compared > 4000


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_it_is_a_program_the_kernel_takes(machine: str) -> None:
    check_shape(compile_filter(default_profile(machine), machine))


ADMINISTRATIVE = """
    mount umount2 pivot_root unshare setns bpf perf_event_open kexec_load init_module finit_module delete_module
    keyctl add_key request_key userfaultfd io_uring_setup open_by_handle_at reboot swapon quotactl fsopen open_tree
    move_mount settimeofday clock_settime sethostname acct syslog process_madvise pidfd_getfd kcmp
"""


@pytest.mark.parametrize("arch", NUMBERS)
@pytest.mark.parametrize("name", ADMINISTRATIVE.split())
def test_what_administers_the_machine_is_refused(arch: str, name: str) -> None:
    assert answer(name, arch=arch) == EPERM


@pytest.mark.parametrize("arch", NUMBERS)
def test_new_namespaces_are_refused_and_threads_and_forks_are_not(arch: str) -> None:
    for bit in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer("clone", bit | 17, arch=arch) == EPERM
        assert answer("clone", bit | 1 << 32, arch=arch) == EPERM
    assert answer("clone", 0x01200011, arch=arch) == ALLOW
    assert answer("clone", 0x003D0F00, arch=arch) == ALLOW
    assert answer("clone3", 0, arch=arch) == ENOSYS


@pytest.mark.parametrize("arch", NUMBERS)
def test_crypto_and_hypervisor_sockets_are_refused_whatever_the_upper_half_of_the_argument_says(arch: str) -> None:
    for upper in (0, 1 << 32, 0xFFFFFFFF << 32):
        assert answer("socket", upper | 38, arch=arch) == EPERM
        assert answer("socket", upper | 40, arch=arch) == EPERM
        for family in (*range(38), 39, *range(41, 48)):
            assert answer("socket", upper | family, arch=arch) == ALLOW


def test_socketcall_makes_no_socket_but_does_everything_else() -> None:
    assert answer("socketcall", 1, arch="i386") == EPERM
    assert answer("socketcall", 1 << 32 | 1, arch="i386") == EPERM
    for call in (0, *range(2, 21)):
        assert answer("socketcall", call, arch="i386") == ALLOW


@pytest.mark.parametrize("arch", NUMBERS)
def test_personalities_that_weaken_address_randomisation_are_refused(arch: str) -> None:
    for value in (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert answer("personality", value, arch=arch) == ALLOW
    for value in (0x0040000, 0x0100000, 0x0400000, 1 << 32):
        assert answer("personality", value, arch=arch) == EPERM


@pytest.mark.parametrize("arch", NUMBERS)
def test_a_call_newer_than_the_tables_is_not_implemented(arch: str) -> None:
    machine = "aarch64" if arch == "aarch64" else "x86_64"
    compiled = compile_filter(default_profile(machine), machine)
    assert verdict(compiled, arch, max(NUMBERS[arch].values()) + 1) == ENOSYS


def test_every_allowed_name_exists_somewhere() -> None:
    """But for those of 32-bit ARM, which the list has for completeness."""
    assert {name for name in ALLOWED if not any(name in numbers for numbers in NUMBERS.values())} <= {
        "recv",
        "send",
        "sync_file_range2",
    }
    assert len(set(ALLOWED)) == len(ALLOWED)
