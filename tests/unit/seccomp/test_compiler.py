"""The compiler, against libseccomp's own filter and against the meaning of the profile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.kernel import seccomp_syscalls as tables
from orchestrator.kernel.seccomp import check_profile, compile_filter
from tests.unit.seccomp import libseccomp
from tests.unit.seccomp.bpf import check_shape, verdict

ALLOW, KILL, KILL_PROCESS, LOG = 0x7FFF0000, 0, 0x80000000, 0x7FFC0000
TOP = (1 << 64) - 1


def errno(number: int) -> int:
    return 0x00050000 | number


def profile(*syscalls: dict[str, Any], **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": list(syscalls),
    }
    return base | changes


def when(op: str, value: int, second: int = 0, index: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


def allow(*names: str, args: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **({"args": args} if args else {})}


needs_libseccomp = pytest.mark.skipif(libseccomp.library() is None, reason="no libseccomp.so.2 here")

NUMBERS = {"x86_64": tables.X86_64, "i386": tables.I386, "aarch64": tables.AARCH64}


@needs_libseccomp
@pytest.mark.parametrize("arch", NUMBERS)
def test_the_tables_agree_with_libseccomp(arch: str) -> None:
    """Negative numbers are libseccomp's own: calls it does not know yet, or that it also reaches by socketcall and ipc."""
    theirs = {name: libseccomp.number_of(name, arch) for name in NUMBERS[arch]}
    differing = {name for name, number in theirs.items() if number >= 0 and number != NUMBERS[arch][name]}
    assert differing == set()
    assert sum(number >= 0 for number in theirs.values()) > 250


def test_the_tables_agree_with_the_kernel_headers() -> None:
    for arch, header in (("x86_64", "unistd_64.h"), ("i386", "unistd_32.h")):
        path = Path("/usr/include/x86_64-linux-gnu/asm") / header
        if not path.exists():
            pytest.skip("no x86 kernel headers here")
        theirs = {m[1]: int(m[2]) for m in re.finditer(r"#define __NR_(\w+)\s+(\d+)\s*$", path.read_text(), re.M)}
        known = {name: NUMBERS[arch].get(name) for name in theirs}
        newer = {name for name, number in known.items() if number is None}
        assert all(theirs[name] > max(NUMBERS[arch].values()) for name in newer)
        assert {name: number for name, number in known.items() if number is not None}.items() <= theirs.items()


def test_no_number_has_two_names() -> None:
    for numbers in NUMBERS.values():
        assert len(set(numbers.values())) == len(numbers)


INTERESTING = sorted(
    {0, 1, 2, 38, 40, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 38, (1 << 33) - 1, 1 << 63, TOP}
)
OPS = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]
MEANING = {
    "EQ": lambda a, v, s: a == v,
    "NE": lambda a, v, s: a != v,
    "LT": lambda a, v, s: a < v,
    "LE": lambda a, v, s: a <= v,
    "GT": lambda a, v, s: a > v,
    "GE": lambda a, v, s: a >= v,
    "MASKED_EQ": lambda a, v, s: a & v == s & v,
}


@pytest.mark.parametrize("op", OPS)
def test_each_comparison_is_unsigned_and_64_bits_wide(op: str) -> None:
    for value in INTERESTING:
        compiled = compile_filter(profile(allow("getpid", args=[when(op, value, 0x26)])), "x86_64")
        check_shape(compiled)
        for argument in INTERESTING:
            expected = ALLOW if MEANING[op](argument, value, 0x26) else errno(1)
            assert verdict(compiled, "x86_64", tables.X86_64["getpid"], [argument]) == expected, (op, value, argument)


words = st.sampled_from(INTERESTING) | st.integers(0, TOP)
condition = st.builds(when, st.sampled_from(OPS), words, words, st.integers(0, 5))
conditions = st.lists(condition, max_size=4, unique_by=lambda c: int(c["index"]))
rule = st.builds(lambda name, args: allow(name, args=args), st.sampled_from(["read", "getpid", "socket"]), conditions)


names = st.sampled_from(["read", "getpid", "socket", "bpf"])


@given(st.lists(rule, max_size=5), st.lists(words, min_size=6, max_size=6), names)
def test_a_call_is_allowed_if_and_only_if_one_of_its_rules_holds(
    rules: list[dict[str, Any]], arguments: list[int], name: str
) -> None:
    compiled = compile_filter(profile(*rules), "x86_64")
    check_shape(compiled)
    holds = any(
        name in entry["names"]
        and all(
            MEANING[arg["op"].removeprefix("SCMP_CMP_")](arguments[arg["index"]], arg["value"], arg["valueTwo"])
            for arg in entry.get("args", [])
        )
        for entry in rules
    )
    assert verdict(compiled, "x86_64", tables.X86_64[name], arguments) == (ALLOW if holds else errno(1))


one_rule_a_call = st.lists(rule, max_size=3, unique_by=lambda entry: str(entry["names"]))
"""libseccomp 2.5 loses a rule when it merges two of one call, ``arg0 < 2^32`` and ``arg1 == 0 and arg0 < 0``."""


@needs_libseccomp
@given(one_rule_a_call, st.lists(words, min_size=6, max_size=6))
def test_libseccomp_reads_the_same_rules_alike(rules: list[dict[str, Any]], arguments: list[int]) -> None:
    wanted = profile(*rules)
    ours, theirs = compile_filter(wanted, "x86_64"), libseccomp.compile_with_libseccomp(wanted)
    for name in ("read", "getpid", "socket", "bpf"):
        number = tables.X86_64[name]
        assert verdict(ours, "x86_64", number, arguments) == verdict(theirs, "x86_64", number, arguments)


def test_one_argument_twice_in_a_rule_means_either() -> None:
    compiled = compile_filter(profile(allow("getpid", args=[when("EQ", 1), when("EQ", 2)])), "x86_64")
    number = tables.X86_64["getpid"]
    assert [verdict(compiled, "x86_64", number, [value]) for value in (1, 2, 3)] == [ALLOW, ALLOW, errno(1)]


def test_a_rule_without_conditions_wins_over_those_with() -> None:
    compiled = compile_filter(profile(allow("getpid", args=[when("EQ", 1)]), allow("getpid")), "x86_64")
    assert verdict(compiled, "x86_64", tables.X86_64["getpid"], [7]) == ALLOW


def test_numbers_beyond_the_tables_and_x32_are_not_implemented() -> None:
    compiled = compile_filter(profile(allow("read")), "x86_64")
    for number in (max(tables.X86_64.values()) + 1, 400, 5000, 0x40000000, 0x40000000 | 1, 0xFFFFFFFF):
        assert verdict(compiled, "x86_64", number) == errno(38)
    assert verdict(compiled, "x86_64", tables.X86_64["bpf"]) == errno(1)


def test_a_lenient_default_is_lenient_to_new_calls_too() -> None:
    for name, value in (("SCMP_ACT_ALLOW", ALLOW), ("SCMP_ACT_LOG", LOG)):
        assert verdict(compile_filter(profile(defaultAction=name), "x86_64"), "x86_64", 5000) == value


def test_the_native_architecture_is_always_filtered_and_foreign_ones_kill() -> None:
    compiled = compile_filter(profile(allow("read"), architectures=["SCMP_ARCH_ARM"]), "x86_64")
    assert verdict(compiled, "x86_64", 0) == ALLOW
    for other in ("i386", "aarch64", 0x1234):
        assert verdict(compiled, other, 0) == KILL_PROCESS
    both = compile_filter(profile(allow("read"), architectures=["SCMP_ARCH_X86"]), "x86_64")
    assert verdict(both, "i386", tables.I386["read"]) == ALLOW
    assert verdict(both, "x86_64", tables.X86_64["read"]) == ALLOW
    arm = compile_filter(profile(allow("read")), "aarch64")
    assert verdict(arm, "aarch64", tables.AARCH64["read"]) == ALLOW
    assert verdict(arm, "x86_64", 0) == KILL_PROCESS


def test_actions_carry_their_errno() -> None:
    entry = {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    compiled = compile_filter(profile(entry, {"names": ["write"], "action": "SCMP_ACT_KILL"}, defaultErrnoRet=13), "x86_64")
    assert verdict(compiled, "x86_64", tables.X86_64["read"]) == errno(38)
    assert verdict(compiled, "x86_64", tables.X86_64["write"]) == KILL
    assert verdict(compiled, "x86_64", tables.X86_64["bpf"]) == errno(13)


def test_names_that_no_table_has_are_passed_over() -> None:
    compiled = compile_filter(profile(allow("no_such_call", "read")), "x86_64")
    assert verdict(compiled, "x86_64", tables.X86_64["read"]) == ALLOW


def test_what_needs_a_listener_is_for_the_command_line_that_has_one() -> None:
    notifying = profile(syscalls=[{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}])
    assert verdict(compile_filter(notifying, "x86_64"), "x86_64", tables.X86_64["mount"]) == 0x7FC00000
    with pytest.raises(ValueError, match=r"syscalls\[0\]: SCMP_ACT_NOTIFY is not supported: nobody listens"):
        check_profile(notifying)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"defaultAction": "SCMP_ACT_MAYBE"}, "defaultAction"),
        ({"defaultAction": None}, "defaultAction"),
        ({"defaultErrnoRet": 5000}, "errno"),
        ({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ASK"}]}, r"syscalls\[0\]"),
        ({"syscalls": [allow("read", args=[when("EQ", 1, index=6)])]}, "argument 6"),
        ({"syscalls": [allow("read", args=[when("ABOUT", 1)])]}, "comparison"),
        ({"syscalls": [allow("read", args=[when("EQ", -1)])]}, "64-bit"),
        ({"syscalls": [allow("read", args=[when("EQ", n)]) for n in range(1500)]}, "instructions"),
    ],
)
def test_a_profile_that_cannot_be_compiled_says_where(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        compile_filter(profile(**changes), "x86_64")


def test_a_machine_without_tables_is_refused() -> None:
    with pytest.raises(KeyError, match="riscv64"):
        compile_filter(profile(), "riscv64")


def test_many_rules_jump_far() -> None:
    names = list(tables.X86_64)[::2]
    compiled = compile_filter(profile(*[allow(name, args=[when("EQ", 5)]) for name in names]), "x86_64")
    check_shape(compiled)
    for name in tables.X86_64:
        assert verdict(compiled, "x86_64", tables.X86_64[name], [5]) == (ALLOW if name in names else errno(1))
        assert verdict(compiled, "x86_64", tables.X86_64[name], [6]) == errno(1)
