"""Secrets and configs: files that a service is granted (compose-spec, "secrets" and "configs")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.values import field, frozen, replace

DEFAULT_MODE = 0o444
MOST_BYTES = 2**20
"""Of a content that is not a file of the host's."""


@frozen
class GrantedFile:
    """A file at the absolute `target`: the host's absolute `source`, or, where that is "", a content of its own, which
    belongs to `uid` and `gid` (the container's) and has `mode`; a `source` is as the host has it.

    `name`: ``secret "token"``, for errors. `content` came from `variable`, or stands in the stack where that is "". None:
    the variable has no value (`digest` is "" then), or it is kept elsewhere: what comes from variables is in no record.
    `digest`: SHA-256 of the content. `place`: compose path for errors.
    """

    target: str
    name: str = ""
    source: str = ""
    variable: str = ""
    content: str | None = field(default=None, repr=False)
    digest: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = DEFAULT_MODE
    place: str = ""


def granted_values(files: Iterable[GrantedFile]) -> dict[str, str]:
    """The contents that came from variables, by digest."""
    return {file.digest: file.content for file in files if file.variable and file.content is not None}


def with_granted_values(files: Iterable[GrantedFile], values: Mapping[str, str]) -> tuple[GrantedFile, ...]:
    """The same with these contents, by digest, for what comes from variables, and no other."""
    return tuple(replace(file, content=values.get(file.digest)) if file.variable else file for file in files)
