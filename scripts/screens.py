"""A terminal of its own for the scripts that record what pystack shows: a tmux server with one window."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

DEADLINE_S = 90
PROMPT = "$ "
_HISTORY = ("-S", "-2000")


class Screen:
    """`environ`: all that the shell in it has, but for its prompt. A context manager: nothing is left of it."""

    def __init__(self, folder: Path, environ: Mapping[str, str], columns: int, rows: int) -> None:
        self._tmux = ["tmux", "-L", f"pystack-screen-{os.getpid()}-{id(self)}", "-f", "/dev/null"]
        names = {**environ, "PS1": PROMPT, "LANG": "C.UTF-8"}
        shell = f"exec env -i {' '.join(f'{name}={value!r}' for name, value in names.items())} /bin/bash --norc --noprofile"
        self._run("new-session", "-d", "-x", str(columns), "-y", str(rows), "-c", str(folder), shell)
        self._run("set-option", "-g", "history-limit", "5000")
        self.do("unset HISTFILE")

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)

    def do(self, command: str) -> tuple[str, int]:
        """Type it, and return what it shows, and its status."""
        self.clear()
        self.type(f"{command}; echo __$?__")
        shown = self.wait(lambda text: re.search(r"^__\d+__$", text, re.MULTILINE) is not None, command)
        found = re.search(r"^__(\d+)__$", shown, re.MULTILINE)
        assert found is not None
        lines = shown[: found.start()].splitlines()
        first = next(at for at, line in enumerate(lines) if "echo __$?__" in line)
        # A line that was full when Enter came is joined with what follows.
        rest = [lines[first].partition("echo __$?__")[2], *lines[first + 1 :]]
        return "\n".join(line.rstrip() for line in rest).lstrip("\n"), int(found[1])

    def clear(self) -> None:
        self._run("send-keys", "-t", "0", "clear", "Enter")
        time.sleep(0.3)
        self._run("clear-history", "-t", "0")

    def type(self, text: str) -> None:
        self._run("send-keys", "-t", "0", "-l", text)
        self.press("Enter")

    def press(self, key: str) -> None:
        """`key`: as tmux(1) names it."""
        self._run("send-keys", "-t", "0", key)

    def wait(self, enough: Callable[[str], bool], what: str) -> str:
        """What it shows, as soon as that is `enough`."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            shown = self._run("capture-pane", "-p", "-J", *_HISTORY, "-t", "0")
            if enough(shown):
                return shown
            time.sleep(0.1)
        raise SystemExit(f"{what!r} does not end:\n{shown}")

    def coloured(self) -> str:
        """What it shows, with the sequences of its colours (ECMA-48, SGR)."""
        return self._run("capture-pane", "-p", "-e", *_HISTORY, "-t", "0").rstrip("\n")

    def _run(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True).stdout
