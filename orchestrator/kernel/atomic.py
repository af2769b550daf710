"""Replacing a file so that it is there whole, old or new, whatever happens (rename(2), fsync(2)).

In `kernel`, below everything that keeps files: `state`, `network` and `images` are of one row and never import each other.
"""

from __future__ import annotations

import os
from contextlib import suppress

from orchestrator.kernel.plain import open_plain


def replace_file(path: str, data: bytes, *, durable: bool = True, mode: int = 0o600) -> None:
    """Write `data` to `path` through ``.NAME.new`` beside it. `durable`: once this returns, a power cut does not undo it;
    without it the file may be empty after one. The caller is the only one who replaces it. Raises OSError; the old file
    is as it was then."""
    folder, name = os.path.split(path)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    temporary = f".{name}.new"
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with open(open_plain(temporary, flags, mode, dir_fd=directory), "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        if durable:
            os.fsync(directory)
    finally:
        os.close(directory)


def keep_aside(path: str) -> str:
    """Rename a damaged file to the first free ``NAME.damaged-N``, for whoever wants to look; its new path."""
    number = 1
    while os.path.lexists(kept := f"{path}.damaged-{number}"):
        number += 1
    os.rename(path, kept)
    return kept
