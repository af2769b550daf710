"""``pystack volume export`` and ``import``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from orchestrator.cli.output import opened_output, terminable
from orchestrator.cli.settings import Settings
from orchestrator.cli.volumes import Found, files_of, require, users_in
from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.state.volume_files import VolumeFiles

_MARK = ".pystack-importing"


def export(settings: Settings, name: str, output: str | None) -> None:
    """Write a volume's content as a tar archive."""
    from orchestrator.images.unpack.packing import write_tree

    if output is None and sys.stdout.isatty():
        raise InputError("an archive is nothing for a terminal", hint=f"pystack volume export {name} -o {name}.tar")
    files = files_of(settings)
    (volume,) = require(files, [name])
    with terminable(), _content(files, volume) as data, opened_output(output) as file:
        write_tree(data, file, whole=True)


def import_(settings: Settings, name: str, source: str) -> None:
    """Fill an empty volume from a tar archive."""
    from orchestrator.kernel.filling import filling

    files = files_of(settings)
    (volume,) = require(files, [name])
    with _content(files, volume) as data, _opened(source) as stream:
        try:
            with filling(data, _MARK) as target:
                if target is None:
                    raise OperationError(
                        f'volume "{name}" is not empty', hint=f"`pystack volume create` another one, or remove {name} first"
                    )
                _extract(stream, target)
        except OSError as exc:
            raise HostError(f'cannot fill volume "{name}": {exc.strerror}') from exc


def _extract(stream: BinaryIO, target: str) -> None:
    from orchestrator.images.unpack.applier import Applier
    from orchestrator.images.unpack.decode import decoded
    from orchestrator.images.unpack.limits import DEFAULT
    from orchestrator.images.unpack.reading import read_entries

    with decoded(stream, DEFAULT) as plain, Applier(target, whiteouts=False) as applier:
        for entry, data in read_entries(cast(BinaryIO, plain)):
            applier.add(entry, data)
        plain.drain()
        applier.finish()


@contextmanager
def _content(files: VolumeFiles, volume: Found) -> Iterator[str]:
    """Its directory, mounted for as long as it is needed."""
    data = files.provide(volume.name, volume.about)
    try:
        yield data
    finally:
        if volume.about.options and not users_in(files, [volume])[volume.name]:
            files.release(volume.name)


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        if sys.stdin.isatty():
            raise InputError("no archive is on stdin", hint="pystack volume import VOLUME - < FILE")
        yield sys.stdin.buffer
        return
    try:
        file = open(source, "rb")  # noqa: SIM115
    except OSError as exc:
        raise InputError(f"cannot read {source}: {exc.strerror}") from exc
    with file:
        yield file
