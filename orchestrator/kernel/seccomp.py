"""An OCI ``linux.seccomp`` object compiled to classic BPF (seccomp(2), runtime-spec config-linux.md "Seccomp").

For each architecture the system call numbers, from 0 to 2^32, are cut into intervals in which the verdict is the same;
the filter is a balanced tree of comparisons over their bounds, so that any call needs about eight instructions. Rules that
look at arguments become short chains at the leaves. A number that our tables do not know, because the kernel is newer than
they are or because it is an x32 call, gives ENOSYS rather than the default error: programs fall back to an older call.

The same object always gives the same bytes: they can be cached by anybody who wants to.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from orchestrator.kernel import seccomp_syscalls as tables

Program = list[tuple[int, int, int, int]]
"""Instructions: code, jump if true, jump if false, operand (struct sock_filter, linux/filter.h)."""

MOST_INSTRUCTIONS = 4096
EPERM = 1
ENOSYS = 38
MAX_ERRNO = 4095

LOAD = 0x20
"""BPF_LD | BPF_W | BPF_ABS."""
JUMP, JUMP_EQ, JUMP_GT, JUMP_GE = 0x05, 0x15, 0x25, 0x35
AND = 0x54
RETURN = 0x06

_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGS = 0, 4, 16
"""In struct seccomp_data (linux/seccomp.h). Arguments are 64 bits wide, least significant half first on our machines."""

KILL_PROCESS = 0x80000000
_ACTIONS: Mapping[str, int] = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA = frozenset({"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"})
_NOT_DONE = {"SCMP_ACT_NOTIFY": "nobody listens here: an agent would have to answer each call (seccomp_unotify(2))"}
FLAGS: Mapping[str, int] = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
"""Of the runtime-spec's, those without SCMP_ACT_NOTIFY (linux/seccomp.h)."""
_LENIENT = frozenset({_ACTIONS["SCMP_ACT_ALLOW"], _ACTIONS["SCMP_ACT_LOG"]})


class _Arch(NamedTuple):
    audit: int
    """AUDIT_ARCH_* (linux/audit.h)."""
    numbers: Mapping[str, int]


_ARCHES: Mapping[str, _Arch] = {
    "SCMP_ARCH_X86_64": _Arch(0xC000003E, tables.X86_64),
    "SCMP_ARCH_X86": _Arch(0x40000003, tables.I386),
    "SCMP_ARCH_AARCH64": _Arch(0xC00000B7, tables.AARCH64),
}
_RUNS_ON: Mapping[str, tuple[str, ...]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
    "aarch64": ("SCMP_ARCH_AARCH64",),
}
"""Machine -> what its kernel can run, the native one first. x32 is not among them: it is refused."""


class Condition(NamedTuple):
    argument: int
    op: str
    value: int
    mask: int


class Rule(NamedTuple):
    conditions: tuple[Condition, ...]
    verdict: int


Verdict = int | tuple[Rule, ...]
"""What a system call gives: one value, or rules of which the first that matches decides, and which end with one that always
does."""


def compile_filter(oci_seccomp: Mapping[str, Any], arch: str) -> bytes:
    """The filter for `arch` (``os.uname().machine``), ready for seccomp(SECCOMP_SET_MODE_FILTER); native byte order.

    The native architecture is always in it, others of the profile where this machine can run them; any other kills the
    process. Raises ValueError that names what is wrong in the profile, and KeyError for a machine without tables.
    Compiled profiles are remembered for the life of the process.
    """
    if arch not in _RUNS_ON:
        raise KeyError(f"no system call table for {arch}")
    if (known := _recent.get((id(oci_seccomp), arch))) is not None:
        return known[1]
    compiled = _compile(json.dumps(oci_seccomp, sort_keys=True), arch)
    if len(_recent) >= _MOST_RECENT:
        _recent.clear()
    _recent[id(oci_seccomp), arch] = oci_seccomp, compiled
    return compiled


_MOST_RECENT = 16
_recent: dict[tuple[int, str], tuple[Mapping[str, Any], bytes]] = {}
"""By identity: one profile is most containers'. It is kept, so that its id stays its own."""


def words() -> dict[str, list[str]]:
    """What a profile may say: actions, operators, architectures."""
    return {"actions": sorted(_ACTIONS), "operators": sorted(_COMPARISONS), "archs": sorted(_ARCHES)}


@lru_cache(maxsize=16)
def _compile(profile: str, arch: str) -> bytes:
    return assemble(program_of(json.loads(profile), arch))


def check_profile(oci_seccomp: Mapping[str, Any]) -> None:
    """Raises ValueError that names what cannot be compiled, whatever the machine, or what only `pystack-oci` does."""
    _action(oci_seccomp.get("defaultAction"), oci_seccomp.get("defaultErrnoRet"), "defaultAction")
    _verdicts(oci_seccomp.get("syscalls") or (), {}, 0)
    flags_of(oci_seccomp)
    places = {"defaultAction": oci_seccomp.get("defaultAction")}
    places |= {f"syscalls[{n}]": entry.get("action") for n, entry in enumerate(oci_seccomp.get("syscalls") or ())}
    for place, name in places.items():
        if name in _NOT_DONE:
            raise ValueError(f"{place}: {name} is not supported: {_NOT_DONE[name]}")


def flags_of(oci_seccomp: Mapping[str, Any]) -> int:
    """The flags to install the filter with (seccomp(2)). Raises ValueError for one that is not known."""
    bits = 0
    for name in oci_seccomp.get("flags") or ():
        if name not in FLAGS:
            raise ValueError(f"flags: {name!r} is not one of {', '.join(FLAGS)}")
        bits |= FLAGS[name]
    return bits


def assemble(program: Program) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def program_of(oci_seccomp: Mapping[str, Any], arch: str) -> Program:
    """The filter's instructions."""
    default = _action(oci_seccomp.get("defaultAction"), oci_seccomp.get("defaultErrnoRet"), "defaultAction")
    listed = set(oci_seccomp.get("architectures") or ())
    native, *others = _RUNS_ON[arch]
    program: Program = [(LOAD, 0, 0, _OFFSET_ARCH)]
    for name in (native, *(name for name in others if name in listed)):
        body = _body(oci_seccomp.get("syscalls") or (), _ARCHES[name].numbers, default)
        program += [(JUMP_EQ, 1, 0, _ARCHES[name].audit), (JUMP, 0, 0, len(body)), *body]
    program.append((RETURN, 0, 0, KILL_PROCESS))
    if len(program) > MOST_INSTRUCTIONS:
        raise ValueError(f"the filter would have {len(program)} instructions, more than the kernel's {MOST_INSTRUCTIONS}")
    return program


# ---- the profile ------------------------------------------------------------------------------------------------------


def _action(name: object, errno: object, place: str) -> int:
    if not isinstance(name, str) or name not in _ACTIONS:
        raise ValueError(f"{place}: {name!r} is not an action that is supported")
    if name not in _WITH_DATA:
        return _ACTIONS[name]
    data = EPERM if errno is None else errno
    if not isinstance(data, int) or not 0 <= data <= MAX_ERRNO:
        raise ValueError(f"{place}: {data!r} is not an errno")
    return _ACTIONS[name] | data


def _verdicts(syscalls: Sequence[Mapping[str, Any]], numbers: Mapping[str, int], default: int) -> dict[int, Verdict]:
    """What each number of the table gives. Names that the table does not have are passed over: another architecture's,
    or newer than the table, where the answer is ENOSYS anyway."""
    rules: dict[int, list[Rule]] = {number: [] for number in numbers.values()}
    for position, entry in enumerate(syscalls):
        place = f"syscalls[{position}]"
        verdict = _action(entry.get("action"), entry.get("errnoRet"), place)
        alternatives = _alternatives(entry.get("args") or (), place)
        for name in entry.get("names") or ():
            if (number := numbers.get(name)) is not None:
                rules[number].extend(Rule(conditions, verdict) for conditions in alternatives)
    return {number: _settled(found, default) for number, found in rules.items()}


def _alternatives(args: Sequence[Mapping[str, Any]], place: str) -> list[tuple[Condition, ...]]:
    """All conditions must hold, unless one argument appears twice: then each alone suffices, as runc and crun read it."""
    conditions = tuple(_condition(arg, place) for arg in args)
    if len({condition.argument for condition in conditions}) < len(conditions):
        return [(condition,) for condition in conditions]
    return [conditions]


def _condition(arg: Mapping[str, Any], place: str) -> Condition:
    index, op, value, second = arg.get("index"), arg.get("op"), arg.get("value"), arg.get("valueTwo", 0)
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise ValueError(f"{place}.args: there is no argument {index!r}")
    if not isinstance(op, str) or op not in _COMPARISONS:
        raise ValueError(f"{place}.args: {op!r} is not a comparison")
    for number in (value, second):
        if not isinstance(number, int) or not 0 <= number < 1 << 64:
            raise ValueError(f"{place}.args: {number!r} is not a 64-bit number")
    assert isinstance(value, int)
    if op == "SCMP_CMP_MASKED_EQ":
        # A bit outside the mask would make it match nothing; libseccomp drops such bits, and so do we.
        return Condition(index, op, second & value, value)
    return Condition(index, op, value, (1 << 64) - 1)


def _settled(rules: list[Rule], default: int) -> Verdict:
    """A rule without conditions decides, wherever it stands: it says "always"."""
    for rule in rules:
        if not rule.conditions:
            return rule.verdict
    return (*rules, Rule((), default)) if rules else default


# ---- the tree ---------------------------------------------------------------------------------------------------------


def _body(syscalls: Sequence[Mapping[str, Any]], numbers: Mapping[str, int], default: int) -> Program:
    verdicts = _verdicts(syscalls, numbers, default)
    unknown = default if default in _LENIENT else _ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS
    bounds = _intervals(verdicts, unknown)
    return [(LOAD, 0, 0, _OFFSET_NUMBER), *_tree(bounds)]


def _intervals(verdicts: Mapping[int, Verdict], unknown: int) -> list[tuple[int, Verdict]]:
    """The first number of each interval with its verdict; neighbours differ, the first begins at 0."""
    bounds: list[tuple[int, Verdict]] = []
    for number in range(max(verdicts) + 2):
        verdict = verdicts.get(number, unknown)
        if not bounds or bounds[-1][1] != verdict:
            bounds.append((number, verdict))
    return bounds


def _tree(bounds: Sequence[tuple[int, Verdict]]) -> Program:
    if len(bounds) == 1:
        return _leaf(bounds[0][1])
    middle = len(bounds) // 2
    below, above = _tree(bounds[:middle]), _tree(bounds[middle:])
    pivot = bounds[middle][0]
    if len(below) <= 255:
        return [(JUMP_GE, len(below), 0, pivot), *below, *above]
    return [(JUMP_GE, 0, 1, pivot), (JUMP, 0, 0, len(below)), *below, *above]


def _leaf(verdict: Verdict) -> Program:
    if isinstance(verdict, int):
        return [(RETURN, 0, 0, verdict)]
    return [instruction for rule in verdict for instruction in _rule(rule)]


def _rule(rule: Rule) -> Program:
    """The rule's checks, each of which leaves behind the rule when it fails, then its verdict."""
    program: Program = [(RETURN, 0, 0, rule.verdict)]
    for condition in reversed(rule.conditions):
        program = [*_COMPARISONS[condition.op](condition, len(program)), *program]
    if len(program) > 255:
        raise ValueError("a rule has too many conditions")
    return program


# ---- comparisons: fall through when the condition holds, jump over `skip` further instructions when it does not ----------


def _halves(condition: Condition) -> tuple[int, int, int, int]:
    """Offsets of the high and the low half of the argument, and the halves of the value."""
    offset = _OFFSET_ARGS + 8 * condition.argument
    return offset + 4, offset, condition.value >> 32, condition.value & 0xFFFFFFFF


def _equal(condition: Condition, skip: int) -> Program:
    high, low, value_high, value_low = _halves(condition)
    return [(LOAD, 0, 0, high), (JUMP_EQ, 0, skip + 2, value_high), (LOAD, 0, 0, low), (JUMP_EQ, 0, skip, value_low)]


def _not_equal(condition: Condition, skip: int) -> Program:
    high, low, value_high, value_low = _halves(condition)
    return [(LOAD, 0, 0, high), (JUMP_EQ, 0, 2, value_high), (LOAD, 0, 0, low), (JUMP_EQ, skip, 0, value_low)]


def _masked_equal(condition: Condition, skip: int) -> Program:
    high, low, value_high, value_low = _halves(condition)
    program: Program = []
    for offset, mask, value in ((low, condition.mask & 0xFFFFFFFF, value_low), (high, condition.mask >> 32, value_high)):
        # Built from the end; half a mask without bits has nothing to say.
        if mask:
            program = [(LOAD, 0, 0, offset), (AND, 0, 0, mask), (JUMP_EQ, 0, skip + len(program), value), *program]
    return program


def _greater(condition: Condition, skip: int, low_code: int) -> Program:
    """high > value_high, or equal and the low half compares."""
    high, low, value_high, value_low = _halves(condition)
    return [
        (LOAD, 0, 0, high),
        (JUMP_GT, 3, 0, value_high),
        (JUMP_EQ, 0, skip + 2, value_high),
        (LOAD, 0, 0, low),
        (low_code, 0, skip, value_low),
    ]


def _less(condition: Condition, skip: int, low_code: int) -> Program:
    """high < value_high, or equal and the low half does not compare."""
    high, low, value_high, value_low = _halves(condition)
    return [
        (LOAD, 0, 0, high),
        (JUMP_GT, skip + 3, 0, value_high),
        (JUMP_EQ, 0, 2, value_high),
        (LOAD, 0, 0, low),
        (low_code, skip, 0, value_low),
    ]


_COMPARISONS: Mapping[str, Callable[[Condition, int], Program]] = {
    "SCMP_CMP_EQ": _equal,
    "SCMP_CMP_NE": _not_equal,
    "SCMP_CMP_MASKED_EQ": _masked_equal,
    "SCMP_CMP_GT": lambda condition, skip: _greater(condition, skip, JUMP_GT),
    "SCMP_CMP_GE": lambda condition, skip: _greater(condition, skip, JUMP_GE),
    "SCMP_CMP_LT": lambda condition, skip: _less(condition, skip, JUMP_GE),
    "SCMP_CMP_LE": lambda condition, skip: _less(condition, skip, JUMP_GT),
}
