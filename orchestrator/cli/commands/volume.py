"""``pystack volume ls, create, inspect, rm, prune``. They need no supervisor."""

from __future__ import annotations

import os
from collections.abc import Sequence

from orchestrator.cli.asking import agreed
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.rows import render_rows, render_values
from orchestrator.cli.settings import Settings
from orchestrator.cli.volumes import (
    COLUMNS,
    Found,
    files_of,
    filters_of,
    found_in,
    require,
    row_of,
    users_in,
    values_of,
)
from orchestrator.errors import InputError, OperationError
from orchestrator.model.volume import check_options
from orchestrator.state.volume_files import About, check_name


def list_(settings: Settings, quiet: bool, filters: tuple[str, ...], shape: str) -> None:
    """List the volumes of all projects."""
    wanted = filters_of(filters, ("dangling", "driver", "label", "name"))
    files = files_of(settings)
    volumes = found_in(files)
    users = users_in(files, volumes)
    show([volume for volume in volumes if wanted(volume, users)], users, quiet, shape)


def show(volumes: Sequence[Found], users: dict[str, tuple[str, ...]], quiet: bool, shape: str) -> None:
    if quiet:
        text = "\n".join(escape_line(volume.name) for volume in volumes)
    else:
        text = render_rows([row_of(volume, users[volume.name]) for volume in volumes], shape, COLUMNS)
    if text:
        print(text)


def create(
    settings: Settings, name: str | None, driver: str, labels: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Make a volume, and print its name."""
    del driver  # There is one.
    if name is not None:
        check_name(name)
    given = dict(pair(text, "--opt") for text in options)
    try:
        check_options(given)
    except ValueError as exc:
        raise InputError(str(exc), hint="as in: --opt type=none --opt o=bind --opt device=/srv/data") from None
    marks = marks_of(labels)
    files = files_of(settings)
    if name is None:
        name = os.urandom(32).hex()
        marks = {"com.docker.volume.anonymous": "", **marks}
    existed = files.exists(name)
    files.ensure(name, About(labels=marks, options=given))
    known = files.about(name)
    if existed and known is not None and dict(known.options) != given:
        hint = f"`pystack volume inspect {name}` shows them"
        raise OperationError(f'volume "{name}" exists with other options', hint=hint)
    print(name)


def marks_of(labels: Sequence[str]) -> dict[str, str]:
    """Of ``--label``. Raises InputError."""
    marks = dict(text.partition("=")[::2] for text in labels)
    if any(not key for key in marks):
        raise InputError("a label needs a key", hint="--label KEY=VALUE")
    return marks


def pair(text: str, option: str) -> tuple[str, str]:
    """Of ``KEY=VALUE``. Raises InputError."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f'"{text}" is not KEY=VALUE', place=option)
    return key, value


def inspect(settings: Settings, names: tuple[str, ...], shape: str | None) -> None:
    """Show all that is known of volumes."""
    files = files_of(settings)
    volumes = require(files, names)
    users = users_in(files, volumes)
    print(render_values([values_of(volume, users[volume.name]) for volume in volumes], shape))


def remove(settings: Settings, names: tuple[str, ...], force: bool) -> None:
    """Remove volumes; all of them or none."""
    files = files_of(settings)
    if force:
        names = tuple(name for name in names if files.exists(name))
    volumes = require(files, names)
    users = users_in(files, volumes)
    for volume in volumes:
        if used := users[volume.name]:
            containers = "container" if len(used) == 1 else "containers"
            raise OperationError(
                f'volume "{volume.name}" is in use by {containers} {", ".join(used)}',
                hint="remove what uses it first: pystack -p PROJECT down",
            )
    for volume in volumes:
        if files.delete(volume.name):
            print(escape_line(volume.name))


def prune(settings: Settings, everything: bool, filters: tuple[str, ...], force: bool) -> None:
    """Remove volumes that no container uses."""
    wanted = filters_of(filters, ("label", "label!"))
    files = files_of(settings)
    if not force:
        which = "all" if everything else "anonymous"
        confirm("volumes", f"This removes {which} volumes that no container uses, with their content.")
    volumes = found_in(files)
    users = users_in(files, volumes)
    chosen = [item for item in volumes if not users[item.name] and (everything or item.anonymous) and wanted(item, users)]
    freed = 0
    removed = []
    for volume in chosen:
        # Once more, right before: somebody may have begun to use it.
        if not users_in(files, [volume])[volume.name]:
            freed += files.bytes_of(volume.name)
            if files.delete(volume.name):
                removed.append(escape_line(volume.name))
    if removed:
        print("Deleted Volumes:\n" + "\n".join(removed) + "\n")
    print(f"Total reclaimed space: {_size(freed)}")


def confirm(things: str, text: str) -> None:
    """Raises InputError when nobody can be asked, OperationError when the answer is no."""
    answer = agreed(f"{text}\nGo on? [y/N] ")
    if answer is None:
        raise InputError(f"nobody can be asked whether to remove {things}: stdin is no terminal", hint="-f does not ask")
    if not answer:
        raise OperationError("nothing was removed")


def _size(count: int) -> str:
    """As Docker writes it: decimal units, four digits."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.4g}{units[0]}"
