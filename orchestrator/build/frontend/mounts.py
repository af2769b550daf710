"""``RUN --mount=type=...``: a table of its options, by the kinds of mounts that have them.

With a variable in it, only ``from`` is read when the Dockerfile is parsed (it decides which stages are built, and may have
none); `expand_mount` reads the rest when the variables are known.

Source: https://docs.docker.com/reference/dockerfile/#run---mount
"""

from __future__ import annotations

import csv
from collections.abc import Mapping

from orchestrator.build.frontend.syntax import lex_word
from orchestrator.build.instructions import RunMount
from orchestrator.compose.text.diagnostics import did_you_mean
from orchestrator.errors import InputError
from orchestrator.units import parse_bytes

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_OF: Mapping[str, frozenset[str]] = {
    "type": frozenset(KINDS),
    "target": frozenset(KINDS),
    "source": frozenset({"bind", "cache", "secret", "ssh"}),
    "from": frozenset({"bind", "cache"}),
    "id": frozenset({"cache", "secret", "ssh"}),
    "readonly": frozenset({"bind", "cache"}),
    "readwrite": frozenset({"bind", "cache"}),
    "required": frozenset({"secret", "ssh"}),
    "sharing": frozenset({"cache"}),
    "mode": frozenset({"cache", "secret", "ssh"}),
    "uid": frozenset({"cache", "secret", "ssh"}),
    "gid": frozenset({"cache", "secret", "ssh"}),
    "size": frozenset({"tmpfs"}),
    "env": frozenset({"secret"}),
}
"""Option -> the kinds that have it."""
_OPTIONS = ("mode", "uid", "gid", "size", "sharing", "env")
_ALONE = frozenset({"readonly", "readwrite", "required"})
_MOST_ID = (1 << 32) - 2


def read_mount(text: str) -> RunMount:
    """As far as it can be read without variables. Raises InputError without a place."""
    pairs = _pairs(text)
    for name, value in pairs:
        if name == "from" and "$" in value.removesuffix("$"):
            raise InputError(
                f"RUN --mount=from={value} cannot have a variable",
                hint=f"name a stage for it: FROM {value} AS tools, then from=tools",
            )
    if "$" in text:
        return RunMount(text, from_=dict(pairs).get("from", ""))
    return _mount(text, pairs)


def expand_mount(mount: RunMount, variables: Mapping[str, str], escape: str = "\\") -> RunMount:
    """The final one. Raises InputError without a place."""
    if "$" not in mount.text:
        return mount
    pairs = [(name, value if name == "from" else lex_word(value, variables, escape)) for name, value in _pairs(mount.text)]
    return _mount(mount.text, pairs)


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as exc:
        raise InputError(f"RUN --mount={text} cannot be read: {exc}", hint="write type=KIND,OPTION=VALUE,...") from exc
    pairs = []
    for item in fields:
        name, equals, value = item.partition("=")
        name = _ALIASES.get(name.lower(), name.lower())
        if name not in _OF:
            near = did_you_mean(name, [*_OF, *_ALIASES])
            raise InputError(f'RUN --mount has no option "{item}"{near}', hint=f"it has {', '.join(_OF)}")
        if not equals:
            if name not in _ALONE:
                raise InputError(f"RUN --mount: {name} needs a value: {name}=VALUE")
            value = "true"
        pairs.append((name, value))
    return pairs


def _mount(text: str, pairs: list[tuple[str, str]]) -> RunMount:
    given = dict(pairs)
    kind = given.get("type", "bind").lower()
    if kind not in KINDS:
        raise InputError(f'RUN --mount: "{kind}" is no type{did_you_mean(kind, KINDS)}', hint=f"one of {', '.join(KINDS)}")
    for name in given:
        # Docker takes readonly and a source for any kind, and forgets them where they mean nothing.
        if kind not in _OF[name] and name not in ("readonly", "readwrite", "source", "id"):
            raise InputError(f"RUN --mount: a mount of type {kind} has no option {name}")
    target = given.get("target", "")
    if kind in ("bind", "cache", "tmpfs") and not target:
        raise InputError(f"RUN --mount={text} has no target", hint="add target=PATH")
    if kind == "secret" and not (given.get("id") or given.get("source") or target):
        raise InputError(f"RUN --mount={text} says neither id nor target", hint="add id=NAME of the secret")
    if kind == "secret" and given.get("id") and given.get("source"):
        raise InputError(f"RUN --mount={text} has an id and a source", hint="for a secret they are the same: keep id")
    return RunMount(
        text=text,
        kind=kind,
        target=target,
        source=given.get("source", ""),
        from_=given.get("from", ""),
        id=given.get("id", ""),
        options={name: _option(name, given[name]) for name in _OPTIONS if name in given},
        read_only=_read_only(kind, pairs),
        required=_truth("required", given.get("required", "false")),
    )


def _read_only(kind: str, pairs: list[tuple[str, str]]) -> bool:
    found = kind not in ("cache", "tmpfs")
    for name, value in pairs:
        if name == "readonly":
            found = _truth(name, value)
        elif name == "readwrite":
            found = not _truth(name, value)
    return found


def _truth(name: str, value: str) -> bool:
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise InputError(f'RUN --mount: {name} is true or false, not "{value}"')


def _option(name: str, value: str) -> str:
    if name == "mode":
        if not value or len(value) > 7 or value.strip("01234567") or int(value, 8) > 0o7777:
            raise InputError(f'RUN --mount: mode "{value}" is no octal mode', hint="such as mode=0755")
    elif name in ("uid", "gid"):
        if not (value.isascii() and value.isdecimal()) or len(value) > 10 or int(value) > _MOST_ID:
            raise InputError(f'RUN --mount: {name} "{value}" is no number of a user or group')
    elif name == "size":
        try:
            return str(parse_bytes(value))
        except ValueError as exc:
            raise InputError(f"RUN --mount: size: {exc}") from exc
    elif name == "sharing":
        if value.lower() not in SHARING:
            near = did_you_mean(value, SHARING)
            raise InputError(f'RUN --mount: sharing "{value}" is none of {", ".join(SHARING)}{near}')
        return value.lower()
    return value
