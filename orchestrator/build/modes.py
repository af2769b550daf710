"""``--chmod``: octal or symbolic (chmod(1)), and who owns what is copied (``--chown``). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.errors import InputError
from orchestrator.oci.users import MAX_ID, resolve_user

Mode = Callable[[int, bool], int]
"""The permission bits from those that there are, and whether it is a directory."""

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*)+)")
_ACTION = re.compile(r"([-+=])([rwxXst]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_SPECIAL = {"u": 0o4000, "g": 0o2000, "o": 0o1000}
_BITS = {"r": 4, "w": 2, "x": 1}


def parse_mode(text: str) -> Mode:
    """Raises InputError."""
    if re.fullmatch(r"[0-7]{1,5}", text):
        fixed = int(text, 8) & 0o7777
        return lambda mode, is_directory: fixed
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    if not text or None in clauses:
        raise InputError(f'--chmod={text} is no mode', hint="write octal digits (755), or as for chmod: u=rwX,go=rX")
    found = [clause for clause in clauses if clause is not None]

    def change(mode: int, is_directory: bool) -> int:
        for clause in found:
            for sign, letters in _ACTION.findall(clause[2]):
                mode = _applied(mode, clause[1] or "a", sign, letters, is_directory)
        return mode

    return change


def _applied(mode: int, who: str, sign: str, letters: str, is_directory: bool) -> int:
    if "a" in who:
        who = "ugo"
    bits = mask = 0
    executable = "x" in letters or ("X" in letters and (is_directory or mode & 0o111))
    for whom in who:
        shift = _SHIFTS[whom]
        mask |= 7 << shift
        # As GNU has it, a directory keeps the set-id bits that nobody names.
        mask |= _SPECIAL[whom] if whom == "o" or not is_directory else 0
        bits |= sum(value for letter, value in _BITS.items() if letter in letters and letter != "x") << shift
        bits |= (1 if executable else 0) << shift
    if "s" in letters:
        bits |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    if "t" in letters:
        bits |= 0o1000
    match sign:
        case "+":
            return mode | bits
        case "-":
            return mode & ~bits
        case _:
            return mode & ~mask | bits


def parse_owner(text: str, passwd: bytes, group: bytes, *, written: str = "--chown=") -> tuple[int, int]:
    """``--chown=USER[:GROUP]``: names of the target's own files. A number alone is the group's number too, a name alone
    brings the group that passwd(5) gives it. `written`: what stands before it. Raises InputError."""
    user, colon, rest = text.partition(":")
    try:
        if colon and not rest:
            raise ValueError("there is no group after the colon")
        if user.isdecimal() and user.isascii() and not colon:
            if int(user) > MAX_ID:
                raise ValueError(f"{user} is no id")
            return int(user), int(user)
        found = resolve_user(text, passwd, group)
    except ValueError as exc:
        hint = "names must be in /etc/passwd and /etc/group of the image; numbers always work"
        raise InputError(f"{written}{text}: {exc}", hint=hint) from exc
    return found.uid, found.gid
