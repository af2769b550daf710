"""Where an archive goes: to stdout, to a file that gets its name when it is whole, or to a device or a FIFO as it is."""

from __future__ import annotations

import os
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from orchestrator.errors import HostError, InputError, PystackError

_BUFFER_BYTES = 1 << 20


def unwritable(output: str, why: OSError) -> PystackError:
    """A name that no file can have is the user's mistake (2); that it cannot be written is this machine's fault (125)."""
    if isinstance(why, IsADirectoryError):
        return InputError(f"{output} is a directory", hint="give the name of a file")
    kind = InputError if isinstance(why, FileNotFoundError | NotADirectoryError) else HostError
    return kind(f"cannot write {output}: {why.strerror}")


@contextmanager
def opened_output(output: str | None) -> Iterator[BinaryIO]:
    """A file comes to its name when it is whole; what is no regular file is written as it is."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        if os.path.lexists(output) and not stat.S_ISREG((found := os.stat(output)).st_mode):
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError
            with open(output, "wb", buffering=_BUFFER_BYTES) as file:
                yield file
            return
        target = os.path.realpath(output)
        fd, beside = tempfile.mkstemp(prefix=f".{os.path.basename(target)[:100]}.", dir=os.path.dirname(target))
        try:
            with open(fd, "wb", buffering=_BUFFER_BYTES) as file:
                yield file
            os.rename(beside, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(beside)
            raise
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise unwritable(output, exc) from exc


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does: what was begun is put away."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
