"""Docker's format of a system call filter: what it may hold, and the OCI ``linux.seccomp`` it means on one machine. Pure.

The format is the runtime-spec's with three more things (https://docs.docker.com/engine/security/seccomp/): ``archMap``
instead of ``architectures``, ``name`` for one of ``names``, and for each entry ``includes`` and ``excludes``: the
architectures, the capabilities held, and the oldest kernel where the entry counts, or does not.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from orchestrator.kernel.seccomp import check_profile

_GO_NAMES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}
"""Machine -> its name in conditions, and the filter's own."""
_KEYS = frozenset(
    [
        *("defaultAction", "defaultErrnoRet", "architectures", "archMap", "syscalls", "flags"),
        *("listenerPath", "listenerMetadata"),
    ]
)
_CALL_KEYS = frozenset(["name", "names", "action", "errnoRet", "args", "comment", "includes", "excludes"])
_ARG_KEYS = frozenset(["index", "value", "valueTwo", "op"])
_CONDITION_KEYS = frozenset(["arches", "caps", "minKernel"])
_OWN_KEYS = frozenset(["includes", "excludes", "comment", "name"])


def parse_profile(text: str) -> dict[str, Any]:
    """The profile that a file holds. Raises ValueError for what is no profile, and for what the compiler does not do."""
    try:
        profile = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"is not JSON: {exc}") from None
    if not isinstance(profile, dict):
        raise ValueError("is not a JSON object")
    _known(profile, _KEYS, "")
    if profile.get("architectures") and profile.get("archMap"):
        raise ValueError("architectures and archMap exclude each other")
    for number, entry in enumerate(_list(profile, "archMap", "")):
        place = f"archMap[{number}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("architecture"), str):
            raise ValueError(f"{place} names no architecture")
        _texts(entry, "subArchitectures", place)
    for key in ("architectures", "flags"):
        _texts(profile, key, "")
    for key in ("listenerPath", "listenerMetadata"):
        if profile.get(key):
            raise ValueError(f"{key} is not supported: SCMP_ACT_NOTIFY is not")
    for number, call in enumerate(_list(profile, "syscalls", "")):
        _check_call(call, f"syscalls[{number}]")
    check_profile(_without_conditions(profile))
    return profile


def _check_call(call: object, place: str) -> None:
    if not isinstance(call, dict):
        raise ValueError(f"{place} is not an object")
    _known(call, _CALL_KEYS, f"{place}.")
    if call.get("name") and call.get("names"):
        raise ValueError(f"{place}: name and names exclude each other")
    if not isinstance(call.get("name") or "", str):
        raise ValueError(f"{place}.name is not a string")
    _texts(call, "names", place)
    for number, arg in enumerate(_list(call, "args", f"{place}.")):
        if not isinstance(arg, dict):
            raise ValueError(f"{place}.args[{number}] is not an object")
        _known(arg, _ARG_KEYS, f"{place}.args[{number}].")
    for key in ("includes", "excludes"):
        condition = call.get(key) or {}
        if not isinstance(condition, dict):
            raise ValueError(f"{place}.{key} is not an object")
        _known(condition, _CONDITION_KEYS, f"{place}.{key}.")
        for name in ("arches", "caps"):
            _texts(condition, name, f"{place}.{key}")
        if (oldest := condition.get("minKernel")) is not None and _version(oldest) is None:
            raise ValueError(f'{place}.{key}.minKernel: {oldest!r} is not a version such as "4.8"')


def _known(found: Mapping[str, Any], known: Collection[str], prefix: str) -> None:
    for key in found:
        if key not in known:
            raise ValueError(f"{prefix}{key} is not known to the format")


def _list(holder: Mapping[str, Any], key: str, prefix: str) -> list[Any]:
    value = holder.get(key) or []
    if not isinstance(value, list):
        raise ValueError(f"{prefix}{key} is not a list")
    return value


def _texts(holder: Mapping[str, Any], key: str, place: str) -> list[str]:
    prefix = f"{place}." if place else ""
    items = _list(holder, key, prefix)
    if not all(isinstance(item, str) for item in items):
        raise ValueError(f"{prefix}{key} is not a list of strings")
    return items


@lru_cache(maxsize=64)
def translated(text: str, machine: str, held: frozenset[str], kernel: tuple[int, int]) -> dict[str, Any]:
    """As `translate`, of the text of a profile; one shared object for all that ask for the same: do not change it."""
    return translate(parse_profile(text), machine, held, kernel)


def translate(profile: Mapping[str, Any], machine: str, held: Collection[str], kernel: tuple[int, int]) -> dict[str, Any]:
    """The OCI object for this `machine`, a process whose bounding set is `held`, and a kernel of that version. `profile`:
    from `parse_profile`. Raises KeyError for a machine that nothing is known of."""
    go_name, native = _GO_NAMES[machine]
    out: dict[str, Any] = {
        key: profile[key] for key in ("defaultAction", "defaultErrnoRet", "flags") if profile.get(key) is not None
    }
    architectures = list(profile.get("architectures") or ())
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == native:
            architectures = [native, *(entry.get("subArchitectures") or ())]
    if architectures:
        out["architectures"] = architectures
    calls = [call for call in profile.get("syscalls") or () if _counts(call, go_name, held, kernel)]
    return {**out, "syscalls": [_plain(call) for call in calls]}


def _without_conditions(profile: Mapping[str, Any]) -> dict[str, Any]:
    """As if each entry counted."""
    kept = {key: value for key, value in profile.items() if key != "archMap"}
    return {**kept, "syscalls": [_plain(call) for call in profile.get("syscalls") or ()]}


def _plain(call: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in call.items() if key not in _OWN_KEYS and value is not None}
    if "args" in plain:
        plain["args"] = [{key: value for key, value in arg.items() if value is not None} for arg in plain["args"]]
    return {**plain, "names": [call["name"]]} if call.get("name") else plain


def _counts(call: Mapping[str, Any], arch: str, held: Collection[str], kernel: tuple[int, int]) -> bool:
    excludes, includes = call.get("excludes") or {}, call.get("includes") or {}
    if arch in (excludes.get("arches") or ()) or any(name in held for name in excludes.get("caps") or ()):
        return False
    if (version := _version(excludes.get("minKernel"))) is not None and kernel >= version:
        return False
    if (arches := includes.get("arches")) and arch not in arches:
        return False
    if (version := _version(includes.get("minKernel"))) is not None and kernel < version:
        return False
    return all(name in held for name in includes.get("caps") or ())


def _version(text: object) -> tuple[int, int] | None:
    if not isinstance(text, str):
        return None
    major, dot, minor = text.partition(".")
    if not dot or not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in (major, minor)):
        return None
    return int(major), int(minor)
