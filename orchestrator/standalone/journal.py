"""What a runtime says when something is wrong: on stderr, and in the file that its caller (podman, containerd) reads.

Text and JSON as runc writes them: one object a line with ``level``, ``msg`` and ``time``.
"""

from __future__ import annotations

import os
import sys
import time

from orchestrator.errors import InputError
from orchestrator.kernel.jsontext import dumps


class Journal:
    def __init__(self) -> None:
        self._fd = -1
        self._json = False
        self.debugs = False

    def open(self, path: str, form: str, *, debug: bool) -> None:
        """`path`: "" for none. Raises InputError."""
        if form not in ("text", "json"):
            raise InputError(f"{form!r} is not a format of the log", hint="text or json")
        self._json, self.debugs = form == "json", debug
        if path:
            path = path.removeprefix("file:")
            if path.startswith(("syslog:", "journald:")):
                raise InputError(f"the log {path} is not supported", hint="a file: --log=PATH")
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            except OSError as exc:
                raise InputError(f"cannot open the log {path}: {exc.strerror}") from exc

    def error(self, message: str, hint: str | None) -> None:
        self._write("error", message)
        print(f"error: {message}" + (f"\nhint: {hint}" if hint else ""), file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        self._write("warning", message)
        print(f"warning: {message}", file=sys.stderr, flush=True)

    def debug(self, message: str) -> None:
        if self.debugs:
            self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        if self._fd < 0:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._json:
            line = dumps({"level": level, "msg": message, "time": now})
        else:
            line = f"time={dumps(now)} level={level} msg={dumps(message)}"
        os.write(self._fd, f"{line}\n".encode())
