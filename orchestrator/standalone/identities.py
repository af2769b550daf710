"""Who a process is and what it may: an OCI ``process`` in the kernel's terms (config.md, "Process")."""

from __future__ import annotations

import os

from orchestrator.errors import InputError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.kernel.limits import NUMBERS
from orchestrator.kernel.process import last_capability
from orchestrator.oci.terms import DEFAULT_PATH
from orchestrator.values import entity, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any
else:  # Both would make enumerations of all that they have
    import _socket as socket

_DEFAULT_UMASK = 0o022
_UNLIMITED = 1 << 63
_PERSONALITIES = {"LINUX": 0, "LINUX32": 8}
_MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
_MEMORY_FLAGS = {"MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15}


@entity
class Identity:
    """`sets`: effective, permitted, inheritable, as bits. `limits`: kind, soft, hard. `kept`: descriptors that stay."""

    argv: list[bytes]
    variables: dict[bytes, bytes]
    cwd: bytes = b"/"
    uid: int = 0
    gid: int = 0
    groups: list[int] = field(default_factory=list)
    set_groups: bool = True
    umask: int = _DEFAULT_UMASK
    limits: list[tuple[int, int, int]] = field(default_factory=list)
    no_new_privileges: bool = False
    bounding: frozenset[int] = frozenset()
    sets: tuple[int, int, int] = (0, 0, 0)
    ambient: int = 0
    last_capability: int = 0
    filter: bytes | None = None
    filter_flags: int = 0
    listener: socket.socket | None = None
    listener_state: bytes = b""
    """What the listener is told, with %d twice for `pid`."""
    pid: int = 0
    """As the host has it; known once it is born."""
    personality: int | None = None
    memory_policy: tuple[int, bytes, int] | None = None
    label: bytes = b""
    label_file: bytes = b""
    kept: list[int] = field(default_factory=list)
    default_path: bytes = DEFAULT_PATH.encode()


def identity_of(process: Mapping[str, Any], linux: Mapping[str, Any], warn: Callable[[str], None]) -> Identity:
    """Raises InputError. The filter is not here: see `filters`."""
    variables: dict[bytes, bytes] = {}
    for text in process.get("env") or ():
        name, equals, value = os.fsencode(text).partition(b"=")
        if name and equals:
            variables[name] = value
    if process.get("terminal"):
        variables.setdefault(b"TERM", b"xterm")
    user = process.get("user") or {}
    gid = user.get("gid", 0) or 0
    last = last_capability()
    sets = {
        name: _bits((process.get("capabilities") or {}).get(name) or (), last, warn)
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    masks = {name: sum(1 << bit for bit in bits) for name, bits in sets.items()}
    # The kernel has no others in the ambient set (capabilities(7)).
    ambient = masks["ambient"] & masks["permitted"] & masks["inheritable"]
    identity = Identity(
        argv=[os.fsencode(text) for text in process["args"]],
        variables=variables,
        cwd=os.fsencode(process.get("cwd") or "/"),
        uid=user.get("uid", 0) or 0,
        gid=gid,
        groups=list(dict.fromkeys((*(user.get("additionalGids") or ()),))),
        umask=_DEFAULT_UMASK if user.get("umask") is None else user["umask"],
        limits=[(NUMBERS[limit["type"]], _limit(limit["soft"]), _limit(limit["hard"])) for limit in _limits(process)],
        no_new_privileges=bool(process.get("noNewPrivileges")),
        bounding=frozenset(sets["bounding"]),
        sets=(masks["effective"], masks["permitted"], masks["inheritable"]),
        ambient=ambient,
        last_capability=last,
        personality=_personality(linux.get("personality") or {}),
        memory_policy=_memory_policy(linux.get("memoryPolicy")),
    )
    _label(identity, process)
    return identity


def _limits(process: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    for number, limit in enumerate(found := process.get("rlimits") or ()):
        if limit["soft"] > limit["hard"]:
            raise InputError(f"the soft limit {limit['soft']} is above the hard one", place=f"process.rlimits[{number}]")
    return found


def _limit(value: int) -> int:
    return -1 if value >= _UNLIMITED else value


def _bits(names: Sequence[str], last: int, warn: Callable[[str], None]) -> list[int]:
    """Names that nobody knows are left out, with a warning (config.md)."""
    bits = []
    for name in names:
        full = name if name.startswith("CAP_") else f"CAP_{name}"
        bit = CAPABILITIES.get(full.upper())
        if bit is None or bit > last:
            warn(f"unknown capability {name}: left out")
        else:
            bits.append(bit)
    return bits


def _personality(given: Mapping[str, Any]) -> int | None:
    domain = given.get("domain")
    if domain is None:
        return None
    if domain not in _PERSONALITIES:
        raise InputError(f"{domain!r} is not a domain: {', '.join(_PERSONALITIES)}", place="linux.personality.domain")
    if given.get("flags"):
        raise InputError("there are no flags of a personality", place="linux.personality.flags")
    return _PERSONALITIES[domain]


def _memory_policy(given: Mapping[str, Any] | None) -> tuple[int, bytes, int] | None:
    """Mode with flags, the nodes as bits, and how many bits those are (set_mempolicy(2))."""
    place = "linux.memoryPolicy"
    if given is None:
        return None
    mode = _MEMORY_MODES.get(given.get("mode") or "")
    if mode is None:
        raise InputError(f"{given.get('mode')!r} is not a mode: {', '.join(_MEMORY_MODES)}", place=place)
    for flag in given.get("flags") or ():
        if flag not in _MEMORY_FLAGS:
            raise InputError(f"{flag!r} is not a flag: {', '.join(_MEMORY_FLAGS)}", place=place)
        mode |= _MEMORY_FLAGS[flag]
    bits = 0
    for number in numbers_of(given.get("nodes") or "", f"{place}.nodes"):
        bits |= 1 << number
    if not bits:
        return mode, b"", 1  # Of which the kernel reads none.
    size = (bits.bit_length() + 63) // 64 * 8
    return mode, bits.to_bytes(size, "little"), size * 8 + 1


def numbers_of(text: str, place: str) -> list[int]:
    """``0-3,7``. Raises InputError."""
    found: list[int] = []
    for part in text.split(",") if text.strip() else ():
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()) or int(high or low) > 65535 or int(high or low) < int(low):
            raise InputError(f"{text!r} is not a list of numbers (0-3,7)", place=place)
        found.extend(range(int(low), int(high or low) + 1))
    return found


def _label(identity: Identity, process: Mapping[str, Any]) -> None:
    profile = process.get("apparmorProfile")
    if profile and os.path.isdir("/sys/kernel/security/apparmor"):
        identity.label, identity.label_file = f"exec {profile}".encode(), b"/proc/self/attr/apparmor/exec"
    if selinux := process.get("selinuxLabel"):
        identity.label, identity.label_file = selinux.encode(), b"/proc/self/attr/exec"


def home_of(uid: int, passwd: bytes) -> bytes:
    """Of the image's passwd(5), which is not trusted: ``/`` where it does not say."""
    number = b"%d" % uid
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 6 and fields[2] == number and fields[5].startswith(b"/"):
            return fields[5]
    return b"/"
