"""The host image's passwd and group: the host's system accounts, so that ``user: www-data`` means what it means there.

People (ids from 1000 on, but for nobody) do not appear, nor do comments or anything in place of a password.
"""

from __future__ import annotations

from collections.abc import Iterator

FIRST_PERSON = 1000
NOBODY = 65534


def made_passwd(host: bytes) -> bytes:
    """The system accounts of `host`'s passwd: name, ids, home and shell."""
    lines = [b"%s:x:%d:%d::%s:%s\n" % (name, uid, gid, home, shell) for name, uid, gid, home, shell in _accounts(host)]
    return b"".join(lines) or b"root:x:0:0::/root:/bin/sh\n"


def made_group(host: bytes, passwd: bytes) -> bytes:
    """The system groups of `host`'s group file, with those members that `made_passwd` has."""
    names = {name for name, *_ in _accounts(passwd)}
    lines = []
    for fields in _fields(host, 4):
        gid = _id(fields[2])
        if gid is not None:
            members = b",".join(member for member in fields[3].split(b",") if member in names)
            lines.append(b"%s:x:%d:%s\n" % (fields[0], gid, members))
    return b"".join(lines) or b"root:x:0:\n"


def _accounts(passwd: bytes) -> Iterator[tuple[bytes, int, int, bytes, bytes]]:
    for fields in _fields(passwd, 7):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is not None:
            yield fields[0], uid, gid if gid is not None else NOBODY, fields[5], fields[6]


def _fields(content: bytes, count: int) -> Iterator[list[bytes]]:
    for line in content.split(b"\n"):
        fields = line.split(b":")
        if len(fields) == count and fields[0] and not fields[0].startswith((b"#", b"+", b"-")):
            yield fields


def _id(text: bytes) -> int | None:
    """A system account's number, else None."""
    if not text.isdigit() or len(text) > 10:
        return None
    value = int(text)
    return value if value < FIRST_PERSON or value == NOBODY else None
