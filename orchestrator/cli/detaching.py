"""Leaving without ending anything: the keys that do it, as Docker has them."""

from __future__ import annotations

from orchestrator.errors import InputError

DEFAULT = "ctrl-p,ctrl-q"
_CONTROL = {**{chr(ord("a") + at): 1 + at for at in range(26)}, "@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


class Keys:
    """Looks for a sequence among what is typed. What may be its beginning is held back until the next key."""

    def __init__(self, text: str | None = None) -> None:
        """`text`: keys, separated by commas: ``a`` or ``ctrl-a``. Raises InputError."""
        self._sequence = bytes(map(_code, (text or DEFAULT).split(",")))
        self._held = b""
        self.typed = False
        """The whole sequence was."""

    def passed(self, data: bytes) -> bytes:
        """What of the keys that were typed is for the program."""
        out = bytearray()
        for key in data:
            self._held += bytes((key,))
            while not self._sequence.startswith(self._held):
                out.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._sequence:
                self.typed = True
                self._held = b""
                break
        return bytes(out)


def _code(key: str) -> int:
    kind, dash, letter = key.lower().partition("-")
    if dash and kind == "ctrl" and letter in _CONTROL:
        return _CONTROL[letter]
    if len(key) == 1 and key.isascii() and key.isprintable():
        return ord(key)
    raise InputError(f'--detach-keys: "{key}" is not a key', hint="write keys like a or ctrl-p, separated by commas")
