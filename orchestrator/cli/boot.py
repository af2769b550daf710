"""What the machine starts at boot: a systemd unit (systemd.unit(5), systemd.service(5)), or an init script of the LSB.

Both run `pystack start --resume`, and `stop --halt` when the machine goes down: these go by what is recorded, so nothing
that was stopped by hand comes up. Here are only texts and names; `cli.commands.enable` writes them.
"""

from __future__ import annotations

import os
import shlex

from orchestrator.errors import InputError
from orchestrator.values import frozen

UNITS = "etc/systemd/system"
SCRIPTS = "etc/init.d"
TARGET = "multi-user.target"
_START_LEVELS, _STOP_LEVELS = "2345", "016"


@frozen
class Boot:
    """`command`: the interpreter and what it is told, up to and with the project. `files`: more global options, for what
    reads the compose files. `environment`: what the command needs beside them. All paths are absolute. `needs`: those that
    must be mounted first."""

    project: str
    command: tuple[str, ...]
    files: tuple[str, ...] | None
    environment: tuple[tuple[str, str], ...]
    directory: str
    needs: tuple[str, ...]

    @property
    def unit_name(self) -> str:
        return f"pystack-{self.project}.service"

    @property
    def script_name(self) -> str:
        return f"pystack-{self.project}"


def unit(boot: Boot) -> str:
    """The unit's text. Raises InputError for a path that no unit can hold."""
    start, stop = ((*boot.command, *words) for words in (("start", "--resume"), ("stop", "--halt")))
    lines = [
        f"# Written by `pystack enable`; `pystack -p {boot.project} disable` removes it.",
        "[Unit]",
        f"Description=pystack project {boot.project}",
        "Wants=network-online.target",
        "After=network-online.target local-fs.target",
        *(f"RequiresMountsFor={_quoted(path, dollars=False)}" for path in boot.needs),
        "",
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        f"WorkingDirectory=-{_plain(boot.directory)}",
        *(f"Environment={_quoted(f'{name}={value}', dollars=False)}" for name, value in boot.environment),
        f"ExecStart={_line(start)}",
        *([f"ExecReload={_line((*boot.command, *boot.files, 'up', '--detach'))}"] if boot.files is not None else []),
        f"ExecStop={_line(stop)}",
        "TimeoutStartSec=infinity",
        "TimeoutStopSec=10min",
        "TasksMax=infinity",
        "OOMPolicy=continue",
        "",
        "[Install]",
        f"WantedBy={TARGET}",
    ]
    return "\n".join(lines) + "\n"


def script(boot: Boot) -> str:
    """The init script's text: POSIX sh, and the LSB's comment and exit codes."""
    command, files = shlex.join(boot.command), shlex.join(boot.files or ())
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in boot.environment)
    reload_ = f"reload|force-reload) exec {command} {files} up --detach ;;\n" if boot.files is not None else ""
    return f"""#!/bin/sh
# Written by `pystack enable --init`; `pystack -p {boot.project} disable` removes it.
### BEGIN INIT INFO
# Provides:          {boot.script_name}
# Required-Start:    $local_fs $remote_fs $network
# Required-Stop:     $local_fs $remote_fs $network
# Default-Start:     {" ".join(_START_LEVELS)}
# Default-Stop:      {" ".join(_STOP_LEVELS)}
# Short-Description: pystack project {boot.project}
### END INIT INFO
{exports}cd {shlex.quote(boot.directory)} 2>/dev/null || cd /
case "$1" in
start) exec {command} start --resume ;;
stop) exec {command} stop --halt ;;
restart) {command} stop --halt && exec {command} start --resume ;;
status) exec {command} ps ;;
{reload_}*) echo "usage: $0 start|stop|restart{"|reload|force-reload" if reload_ else ""}|status" >&2; exit 2 ;;
esac
"""


def links(name: str) -> tuple[str, ...]:
    """Where an init script is linked from, when nobody else (insserv, update-rc.d) sees to that."""
    begins = [f"etc/rc{level}.d/S99{name}" for level in _START_LEVELS]
    return (*begins, *(f"etc/rc{level}.d/K01{name}" for level in _STOP_LEVELS))


def _line(words: tuple[str, ...]) -> str:
    return " ".join(_quoted(word, dollars=True) for word in words)


def _quoted(word: str, *, dollars: bool) -> str:
    """A word of a unit file (systemd.syntax(7), systemd.service(5)). `dollars`: they would begin a variable."""
    text = _plain(word).replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("$", "$$") if dollars else text
    safe = text and not set(text) - _SAFE
    return text if safe else f'"{text}"'


_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=:,+@%")


def _plain(word: str) -> str:
    """With ``%`` as itself: it begins a specifier (systemd.unit(5))."""
    if not word.isprintable():
        raise InputError(f"{os.fsencode(word)!r} has characters that no unit file can hold")
    return word.replace("%", "%%")
