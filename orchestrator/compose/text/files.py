"""Reading the files that a stack names: regular files of a bounded size, in UTF-8, and nothing else.

A FIFO would hang, /dev/zero would never end: both are refused before anything is read. /dev/null is an empty file.
"""

from __future__ import annotations

import os
import stat

from orchestrator.compose.text.diagnostics import ComposeError, Diagnostic
from orchestrator.values import entity, field

MAX_COMPOSE_BYTES = 8 * 2**20
MAX_ENV_BYTES = 4 * 2**20
_NULL = os.makedev(1, 3)
"""/dev/null (admin-guide/devices.rst)."""


@entity
class Source:
    """A file's text. `name` is how it is shown; `path` is absolute, or ``-`` for standard input."""

    name: str
    path: str
    text: str
    _lines: list[str] = field(default_factory=list, repr=False)

    def line(self, number: int) -> str | None:
        """Line `number` (from 1) without its end, or None."""
        if not self._lines:
            self._lines = self.text.split("\n")
        return self._lines[number - 1].rstrip("\r") if 0 < number <= len(self._lines) else None


class FileError(ValueError):
    """A file that cannot be used. The text goes on after the file's name ("does not exist"); `line` and `column` are 0
    unless the place inside it is known."""

    def __init__(self, message: str, hint: str | None = None, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.hint = hint
        self.line = line
        self.column = column
        self.missing = False


def read_text(path: str, limit: int) -> str:
    """The text of a regular file of at most `limit` bytes, or of /dev/null. Raises FileError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as exc:
        error = FileError(_reason(exc))
        error.missing = isinstance(exc, FileNotFoundError)
        raise error from None
    except ValueError:
        raise FileError("has a NUL byte in its name") from None
    try:
        info = os.fstat(handle)
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == _NULL:
            return ""
        if not stat.S_ISREG(info.st_mode):
            raise FileError(f"is {_kind(info.st_mode)}, not a regular file")
        if info.st_size > limit:
            raise FileError(f"is too large: {info.st_size:,} bytes, at most {limit:,} are read")
        data = b""
        while len(data) <= limit:
            chunk = os.read(handle, min(limit + 1 - len(data), 2**20))
            if not chunk:
                return decode(data)
            data += chunk
        raise FileError(f"is too large: at most {limit:,} bytes are read")
    except OSError as exc:
        raise FileError(_reason(exc)) from None
    finally:
        os.close(handle)


def _reason(exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError):
        return "does not exist"
    return f"cannot be read: {(os.strerror(exc.errno) if exc.errno else str(exc)).lower()}"


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def decode(data: bytes) -> str:
    """UTF-8 (or UTF-16 with a byte order mark) to text. Raises FileError for anything else, and for NUL bytes."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as exc:
        line, column = _place(data, exc.start)
        raise FileError(f"is not valid {encoding.upper()}: {exc.reason}", None, line, column) from None
    if "\0" in text:
        line, column = _place(data, data.find(b"\0"))
        raise FileError("holds a NUL byte", "is it a binary file?", line, column)
    return text.removeprefix("\ufeff")


def _place(data: bytes, at: int) -> tuple[int, int]:
    before = data[:at]
    return before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1


def shown_name(path: str, directory: str) -> str:
    """`path` as people write it from `directory`: relative when it is below."""
    if path == "-":
        return "standard input"
    prefix = directory.rstrip("/") + "/"
    return path.removeprefix(prefix) if path.startswith(prefix) else path


def read_source(path: str, directory: str) -> Source:
    """A compose file's text. Raises ComposeError."""
    name = shown_name(path, directory)
    try:
        return Source(name, path, read_text(path, MAX_COMPOSE_BYTES))
    except FileError as exc:
        raise ComposeError([Diagnostic(name, exc.line, exc.column, "", f"the file {exc}", exc.hint)]) from None


def stdin_source(text: str) -> Source:
    """Standard input as a compose file. Raises ComposeError."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_COMPOSE_BYTES:
        message = f"is too large: at most {MAX_COMPOSE_BYTES:,} bytes are read"
        raise ComposeError([Diagnostic("standard input", 0, 0, "", message)])
    at = next((n for n, c in enumerate(text) if c == "\0" or "\ud800" <= c <= "\udfff"), -1)
    if at >= 0:
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        message = "holds a NUL byte" if text[at] == "\0" else "is not valid UTF-8"
        raise ComposeError([Diagnostic("standard input", line, column, "", message)])
    return Source("standard input", "-", text)
