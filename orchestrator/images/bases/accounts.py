"""A tree's accounts: the system's own, those that sysusers.d(5) of the packages declares, those that an image needs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.values import entity, field, frozen

FIRST_DYNAMIC = 990
"""Downwards from here for accounts whose declaration leaves the id open, as systemd-sysusers does it (SYSTEM_UID_MAX)."""


@frozen
class Account:
    """A user and the group of its name. `groups`: of others that it is a member of."""

    name: str
    uid: int
    gid: int
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"
    groups: tuple[str, ...] = ()


@entity
class Accounts:
    """`users`: name -> fields of passwd(5); `groups`: name -> (gid, members)."""

    users: dict[str, list[str]] = field(default_factory=dict)
    groups: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add_files(self, passwd: bytes, group: bytes) -> None:
        """What two files as base-passwd has them say; lines that are none are left out."""
        for line in passwd.decode(errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) == 7 and fields[2].isdigit() and fields[3].isdigit():
                self.users.setdefault(fields[0], fields)
        for line in group.decode(errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) == 4 and fields[2].isdigit():
                self.groups.setdefault(fields[0], (int(fields[2]), [name for name in fields[3].split(",") if name]))

    def add(self, account: Account) -> None:
        """An account that an image needs by these ids: it replaces one of its name."""
        self.groups[account.name] = (account.gid, [])
        self.users[account.name] = [
            account.name, "x", str(account.uid), str(account.gid), "", account.home, account.shell
        ]
        for name in account.groups:
            self._join(account.name, name)

    def add_sysusers(self, files: Mapping[str, str]) -> None:
        """What sysusers.d files (by their base names) declare: ``u``, ``u!``, ``g`` and ``m`` lines."""
        lines = []
        for _, text in sorted(files.items()):
            for line in text.splitlines():
                try:
                    words = shlex.split(line, comments=True)
                except ValueError:
                    continue
                if len(words) >= 2 and "%" not in words[1]:
                    lines.append(words + ["-"] * (6 - len(words)))
        for kind, name, number, *_ in lines:
            if kind == "g" and name not in self.groups:
                self._group(name, number)
        for kind, name, number, gecos, home, shell in (words[:6] for words in lines):
            if kind.rstrip("!") == "u" and name not in self.users:
                self._user(name, number, ("" if gecos == "-" else gecos, home, shell))
        for kind, name, group, *_ in lines:
            if kind == "m":
                self._join(name, group)

    def id_of(self, owner: str) -> tuple[int, int]:
        """``user`` or ``user:group`` as numbers. KeyError is a bug of a recipe's."""
        user, _, group = owner.partition(":")
        fields = self.users[user]
        return int(fields[2]), self.groups[group][0] if group else int(fields[3])

    def files(self) -> Iterable[tuple[str, int, str, bytes]]:
        """(path, mode, group, content) of passwd, group, shadow and gshadow; nobody has a password."""
        passwd = [[name, "x", *fields[2:]] for name, fields in self.users.items()]
        users = sorted(passwd, key=lambda fields: int(fields[2]))
        groups = sorted(self.groups.items(), key=lambda item: item[1][0])
        yield "/etc/passwd", 0o644, "root", _lines(users)
        rows = [[name, "x", str(gid), ",".join(members)] for name, (gid, members) in groups]
        yield "/etc/group", 0o644, "root", _lines(rows)
        yield "/etc/shadow", 0o640, "shadow", _lines([fields[0], "*", "", "", "", "", "", "", ""] for fields in users)
        yield "/etc/gshadow", 0o640, "shadow", _lines([name, "*", "", members] for name, _, _, members in rows)

    def _group(self, name: str, number: str) -> int:
        taken = {gid for gid, _ in self.groups.values()}
        wanted = int(number) if number.isdigit() else -1
        gid = wanted if wanted >= 0 and wanted not in taken else _free(taken)
        self.groups[name] = (gid, [])
        return gid

    def _user(self, name: str, number: str, rest: Sequence[str]) -> None:
        user, _, group = number.partition(":")
        taken = {int(fields[2]) for fields in self.users.values()}
        wanted = int(user) if user.isdigit() else -1
        uid = wanted if wanted >= 0 and wanted not in taken else _free(taken)
        if group and not group.isdigit() and group in self.groups:
            gid = self.groups[group][0]
        elif group.isdigit():
            gid = int(group)
        else:
            gid = self.groups[name][0] if name in self.groups else self._group(name, str(uid))
        gecos, home, shell = rest
        self.users[name] = [
            name, "x", str(uid), str(gid), gecos.replace(":", " "), "/" if home == "-" else home,
            "/usr/sbin/nologin" if shell == "-" else shell,
        ]  # fmt: skip

    def _join(self, name: str, group: str) -> None:
        if group in self.groups and name not in self.groups[group][1]:
            self.groups[group][1].append(name)


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    return "".join(":".join(fields) + "\n" for fields in rows).encode()


def _free(taken: set[int]) -> int:
    return next(number for number in range(FIRST_DYNAMIC, 100, -1) if number not in taken)
