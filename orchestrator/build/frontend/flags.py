"""The flags of instructions (``--chown=1:1``): one table, and one reader.

Source: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto

from orchestrator.compose.text.diagnostics import did_you_mean
from orchestrator.errors import InputError
from orchestrator.values import frozen


class Form(Enum):
    TEXT = auto()  # once, with a value
    LIST = auto()  # any number of times
    BOOL = auto()  # alone, or =true, =false


TABLE: Mapping[str, Mapping[str, Form]] = {
    "FROM": {"platform": Form.TEXT},
    "COPY": {
        "from": Form.TEXT, "chown": Form.TEXT, "chmod": Form.TEXT, "link": Form.BOOL, "parents": Form.BOOL,
        "exclude": Form.LIST,
    },
    "ADD": {
        "chown": Form.TEXT, "chmod": Form.TEXT, "link": Form.BOOL, "exclude": Form.LIST, "checksum": Form.TEXT,
        "keep-git-dir": Form.BOOL, "unpack": Form.BOOL,
    },
    "RUN": {"mount": Form.LIST, "network": Form.TEXT, "security": Form.TEXT},
    "HEALTHCHECK": {
        "interval": Form.TEXT, "timeout": Form.TEXT, "start-period": Form.TEXT, "start-interval": Form.TEXT,
        "retries": Form.TEXT,
    },
}  # fmt: skip
"""Instruction -> its flags. One that is not here has none."""


@frozen
class Flags:
    """What was given: texts by name, and every value of a list."""

    texts: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]

    def text(self, name: str) -> str:
        return self.texts.get(name, "")

    def all(self, name: str) -> tuple[str, ...]:
        return self.lists.get(name, ())

    def is_on(self, name: str) -> bool:
        return self.texts.get(name) == "true"

    def tristate(self, name: str) -> bool | None:
        return self.is_on(name) if name in self.texts else None

    def read(self, name: str, reader: Callable[[str], float]) -> float | None:
        return reader(self.texts[name]) if name in self.texts else None


def read_flags(instruction: str, given: tuple[str, ...]) -> Flags:
    """Raises InputError without a place."""
    known = TABLE.get(instruction, {})
    texts: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for word in given:
        name, equals, value = word.removeprefix("--").partition("=")
        form = known.get(name)
        if form is None:
            hint = f"{instruction} has {', '.join(f'--{flag}' for flag in known)}" if known else None
            if not known and instruction in ("CMD", "ENTRYPOINT"):
                hint = f'write {instruction} ["..."] if {word} is part of the command'
            raise InputError(f"{instruction} has no flag --{name}{did_you_mean(name, known)}", hint=hint)
        if form is not Form.BOOL and not equals:
            raise InputError(f"{instruction} --{name} needs a value: --{name}=VALUE")
        if form is Form.LIST:
            lists.setdefault(name, []).append(value)
            continue
        if name in texts:
            raise InputError(f"{instruction} --{name} is given twice")
        if form is Form.BOOL:
            value = value.lower() if equals else "true"
            if value not in ("true", "false"):
                raise InputError(f'{instruction} --{name} is true or false, not "{value}"')
        texts[name] = value
    return Flags(texts, {name: tuple(values) for name, values in lists.items()})
