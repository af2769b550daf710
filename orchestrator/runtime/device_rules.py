"""The device list of a container's group (runtime-spec, config-linux.md, "Device allow list"): what the config says, in its
order, then what every container has. Written to the ``devices`` controller of v1, or a BPF program on v2.
"""

from __future__ import annotations

import errno

from orchestrator.errors import InputError
from orchestrator.kernel import cgroup, device_filter
from orchestrator.kernel.device_filter import ANY, BLOCK, CHARACTER, MKNOD, READ, WRITE, DeviceFilterRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_KINDS = {"a": 0, "b": BLOCK, "c": CHARACTER, "u": CHARACTER}
_ACCESS = {"r": READ, "w": WRITE, "m": MKNOD}
_LETTERS = {BLOCK: "b", CHARACTER: "c"}
_NUMBERS = 1 << 32

_DEFAULTS = (
    # Any node can be made: it does not open for that.
    DeviceFilterRule(True, CHARACTER, access=MKNOD),
    DeviceFilterRule(True, BLOCK, access=MKNOD),
    # null, zero, full, random, urandom; tty, console, ptmx, and the terminals of a devpts.
    *(DeviceFilterRule(True, CHARACTER, 1, minor) for minor in (3, 5, 7, 8, 9)),
    *(DeviceFilterRule(True, CHARACTER, 5, minor) for minor in (0, 1, 2)),
    DeviceFilterRule(True, CHARACTER, 136),
)


def rules_of(resources: Mapping[str, Any]) -> list[DeviceFilterRule] | None:
    """The list of an OCI ``linux.resources``; None: it has none. The last rule that fits decides. Raises InputError."""
    given = resources.get("devices")
    if given is None:
        return None
    rules = [DeviceFilterRule(False)]
    for number, item in enumerate(given):
        place = f"linux.resources.devices[{number}]"
        kind, access = item.get("type") or "a", item.get("access") or "rwm"
        if kind not in _KINDS:
            raise InputError(f'"{kind}" is not a kind of device: one of a, b, c', place=f"{place}.type")
        if set(access) - set(_ACCESS):
            raise InputError(f'"{access}" is not made of r, w and m', place=f"{place}.access")
        numbers = [_number(item.get(name), f"{place}.{name}") for name in ("major", "minor")]
        bits = 0
        for letter in access:
            bits |= _ACCESS[letter]
        rules.append(DeviceFilterRule(bool(item["allow"]), _KINDS[kind], numbers[0], numbers[1], bits))
    return [*rules, *_DEFAULTS]


def _number(value: int | None, place: str) -> int:
    if value is None or value == ANY:
        return ANY
    if not 0 <= value < _NUMBERS:
        raise InputError(f"{value} is not the number of a device", place=place)
    return value


def enforce(rules: Sequence[DeviceFilterRule], v1: str | None, unified: int | None) -> None:
    """For the group `v1` of the v1 hierarchy, else for the v2 group `unified` (its directory). Raises OSError."""
    if v1 is not None:
        _write(v1, rules)
    elif unified is not None:
        try:
            device_filter.attach(unified, rules)
        except OSError as exc:
            raise OSError(exc.errno, f"{exc.strerror}: BPF programs for devices (CONFIG_CGROUP_BPF)", "bpf") from exc
    else:
        raise OSError(errno.ENOENT, "the controller is not mounted", "devices")


def _write(group: str, rules: Sequence[DeviceFilterRule]) -> None:
    """v1 has one default and exceptions to it, and no exceptions to those. Processes in the group are not disturbed where
    the list is as it should be."""
    # What comes before a rule for all devices is forgotten with it.
    last = max(number for number, rule in enumerate(rules) if _lines(rule) == ["a"])
    rules = rules[last:]
    _check_exceptions(rules)
    commands = [(rule.allow, line) for rule in rules for line in _lines(rule)]
    if _listed(group) == _expected(commands):
        return
    for allow, line in commands:
        cgroup.write(f"{group}/devices.{'allow' if allow else 'deny'}", line)


def _check_exceptions(rules: Sequence[DeviceFilterRule]) -> None:
    default, *others = rules
    for number, rule in enumerate(others):
        if rule.allow is default.allow and any(
            before.allow is not default.allow and _overlap(before, rule) and before.devices != rule.devices
            for before in others[:number]
        ):
            message = f"cgroup v1 cannot {'allow' if rule.allow else 'refuse'} a part of what a rule before says"
            raise OSError(errno.EINVAL, message, _lines(rule)[0])


def _overlap(one: DeviceFilterRule, other: DeviceFilterRule) -> bool:
    """Whether there is a device, and something to do with it, that both speak of."""
    kinds = not one.kind or not other.kind or one.kind == other.kind
    numbers = all(ANY in pair or pair[0] == pair[1] for pair in ((one.major, other.major), (one.minor, other.minor)))
    return kinds and numbers and bool(one.access & other.access)


def _lines(rule: DeviceFilterRule) -> list[str]:
    if rule.is_for_all:
        return ["a"]
    access = "".join(letter for letter, bit in _ACCESS.items() if rule.access & bit)
    major, minor = ("*" if number == ANY else str(number) for number in (rule.major, rule.minor))
    letters = [_LETTERS[rule.kind]] if rule.kind else ["b", "c"]
    return [f"{letter} {major}:{minor} {access}" for letter in letters]


def _listed(group: str) -> list[str] | None:
    try:
        return sorted(cgroup.read(f"{group}/devices.list").splitlines())
    except OSError:
        return None


def _expected(commands: Sequence[tuple[bool, str]]) -> list[str] | None:
    """What devices.list says after them; None where that cannot be told from them alone."""
    (allowed, _), *others = commands
    if allowed:
        return None if any(not allow for allow, _ in others) else ["a *:* rwm"]
    if any(not allow for allow, _ in others):
        return None
    access: dict[str, set[str]] = {}
    for _, line in others:
        device, _, letters = line.rpartition(" ")
        access.setdefault(device, set()).update(letters)
    return sorted(f"{device} {''.join(x for x in 'rwm' if x in letters)}" for device, letters in access.items())


