"""Who a process runs as: ``UID|NAME[:GID|NAME]`` resolved by an image's own passwd and group files (passwd(5), group(5)).

The files come from the image and are not trusted: lines that do not fit are passed over, numbers are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.values import frozen

MAX_ID = 2**31 - 1


@frozen
class User:
    """`groups`: supplementary groups, always with `gid` itself first (a process whose primary group is not among them
    escapes permission bits that forbid that group). `home` is ``/`` where the image does not say."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = "/"


@frozen
class _PasswdEntry:
    name: str
    uid: int
    gid: int
    home: str


@frozen
class _GroupEntry:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(text: str, passwd: bytes, group: bytes) -> User:
    """The user that `text` means, as Docker resolves it: a number is an id, whatever names the files have (an image could
    call its root ``1000``), everything else a name; "" is root. With nothing after the colon there is no group
    (``${UID}:${GID}``, and neither is exported).

    Without a group, the primary and supplementary groups are those of the files (gid 0 for a number they do not know);
    with one, that group alone. Raises ValueError with a sentence for a name that does not exist and a number that is
    not an id.
    """
    user_text, _, group_text = text.partition(":")
    uid = _number(user_text or "0")
    entry = _find_user(user_text, uid, passwd)
    if entry is None:
        if uid is None:
            raise ValueError(f'there is no user "{user_text}"')
        entry = _PasswdEntry("", uid, 0, "/")
    if group_text:
        gid = find_group(group_text, group)
        return User(entry.uid, gid, (gid,), entry.home)
    listed = {found.gid for found in _groups(group) if entry.name and entry.name in found.members}
    return User(entry.uid, entry.gid, (entry.gid, *sorted(listed - {entry.gid})), entry.home)


def _find_user(name: str, uid: int | None, passwd: bytes) -> _PasswdEntry | None:
    for entry in _users(passwd):
        if entry.name == name if uid is None else entry.uid == uid:
            return entry
    return None


def find_group(text: str, group: bytes) -> int:
    """The number of a group by name or number. Raises ValueError with a sentence."""
    gid = _number(text)
    if gid is not None:
        return gid
    for entry in _groups(group):
        if entry.name == text:
            return entry.gid
    raise ValueError(f'there is no group "{text}"')


def _users(passwd: bytes) -> Iterator[_PasswdEntry]:
    for fields in _lines(passwd, 7):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            home = fields[5] if fields[5].startswith("/") else "/"
            yield _PasswdEntry(fields[0], uid, gid, home)


def _groups(group: bytes) -> Iterator[_GroupEntry]:
    for fields in _lines(group, 4):
        gid = _number(fields[2])
        if gid is not None:
            yield _GroupEntry(fields[0], gid, tuple(name for name in fields[3].split(",") if name))


def _lines(content: bytes, count: int) -> Iterator[list[str]]:
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) == count and fields[0] and not line.startswith("#") and "\0" not in line:
            yield fields


def _number(text: str) -> int | None:
    """The id `text` is, or None; ASCII digits only, at most MAX_ID."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    value = int(text)
    return value if value <= MAX_ID else None
