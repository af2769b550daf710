"""Volumes as the verbs see them: found, filtered, and as fields with Docker's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.cli.parser import truth
from orchestrator.cli.settings import Settings
from orchestrator.errors import InputError, OperationError
from orchestrator.model.volume import bound_directory
from orchestrator.state.directory import DEFAULT_DATA
from orchestrator.state.volume_files import ANONYMOUS, About, VolumeFiles
from orchestrator.state.volume_users import users_of_volumes
from orchestrator.values import frozen

COLUMNS = {"Driver": "DRIVER", "Name": "VOLUME NAME"}


@frozen
class Found:
    """`about`: what is written of it; nothing when that is lost."""

    name: str
    about: About
    data: str
    made_s: float

    @property
    def anonymous(self) -> bool:
        return self.name.startswith(ANONYMOUS) or "com.docker.volume.anonymous" in self.about.labels

    @property
    def labels(self) -> dict[str, str]:
        """The stack's or the user's, and those that Compose gives to what it makes."""
        about = self.about
        own = {
            **({"com.docker.compose.project": about.project} if about.project else {}),
            **({"com.docker.compose.volume": about.volume} if about.volume else {}),
            **({"com.docker.volume.anonymous": ""} if self.name.startswith(ANONYMOUS) else {}),
        }
        return {**own, **about.labels}


def files_of(settings: Settings) -> VolumeFiles:
    return VolumeFiles(settings.data_root or DEFAULT_DATA)


def found_in(files: VolumeFiles) -> list[Found]:
    """All of them, sorted by name."""
    return [_found(files, name) for name in files.names() if files.exists(name)]


def require(files: VolumeFiles, names: Sequence[str]) -> list[Found]:
    """Those of `names`. Raises OperationError for the first that does not exist."""
    for name in names:
        if not files.exists(name):
            from orchestrator.cli.selection import nearest

            close = nearest(name, files.names())
            message = f'there is no volume "{name}"' + (f' (did you mean "{close}"?)' if close else "")
            raise OperationError(message, hint="`pystack volume ls` lists them")
    return [_found(files, name) for name in dict.fromkeys(names)]


def _found(files: VolumeFiles, name: str) -> Found:
    about = files.about(name)
    data = bound_directory(about.options) if about is not None else None
    return Found(name, about or About(), data or files.data(name), files.made_s(name, about))


def row_of(volume: Found, users: Sequence[str]) -> dict[str, Any]:
    """The fields of a list."""
    labels = volume.labels
    return {
        "Name": volume.name,
        "Driver": "local",
        "Scope": "local",
        "Mountpoint": volume.data,
        "Labels": ",".join(f"{key}={text}" for key, text in labels.items()),
        "CreatedAt": instant(volume.made_s),
        "Links": len(users),
        "Size": "N/A",
        "Label": lambda key: labels.get(key, ""),
    }


def values_of(volume: Found, users: Sequence[str]) -> dict[str, Any]:
    """The fields of ``inspect``."""
    return {
        "CreatedAt": instant(volume.made_s),
        "Driver": "local",
        "Labels": volume.labels or None,
        "Mountpoint": volume.data,
        "Name": volume.name,
        "Options": dict(volume.about.options) or None,
        "Scope": "local",
        "Project": volume.about.project,
        "Target": volume.about.target,
        "UsedBy": list(users),
    }


def instant(made_s: float) -> str:
    return datetime.fromtimestamp(int(made_s), UTC).isoformat().replace("+00:00", "Z")


Filter = Callable[[Found, Mapping[str, Sequence[str]]], bool]
"""Whether a volume is wanted, with who uses which."""


def filters_of(texts: Sequence[str], known: Sequence[str]) -> Filter:
    """What ``--filter`` asks for, as Docker combines them: any of the names, any of the drivers, all of the labels.
    `known`: the filters that the verb has. Raises InputError."""
    asked = asked_by(texts, known)
    dangling = [truth_of("dangling", value) for value in asked.get("dangling", ())]

    def wanted(volume: Found, users: Mapping[str, Sequence[str]]) -> bool:
        labels = volume.labels
        return (
            (not dangling or (not users[volume.name]) in dangling)
            and ("driver" not in asked or "local" in asked["driver"])
            and ("name" not in asked or any(part in volume.name for part in asked["name"]))
            and all(has_label(labels, text) for text in asked.get("label", ()))
            and not any(has_label(labels, text) for text in asked.get("label!", ()))
        )

    return wanted


def asked_by(texts: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """``--filter NAME=VALUE``, the values by name. Raises InputError for a name that is not `known`."""
    asked: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known or not value:
            raise InputError(f'"{text}" is no filter', hint=f"there is {', '.join(f'{item}=...' for item in known)}")
        asked.setdefault(name, []).append(value)
    return asked


def truth_of(name: str, text: str) -> bool:
    """The value of the filter `name`. Raises InputError."""
    try:
        return truth(text)
    except ValueError as exc:
        raise InputError(f"{name}={text}: {exc}") from None


def has_label(labels: Mapping[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def users_in(files: VolumeFiles, volumes: Sequence[Found]) -> dict[str, tuple[str, ...]]:
    """The containers that use each of them, by the records of all projects. Raises OperationError when these cannot be
    read."""
    return users_of_volumes(files.data_root, [volume.name for volume in volumes])
