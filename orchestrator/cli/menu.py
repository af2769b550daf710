"""The keys of ``pystack up`` in the foreground.

    idle      `d` detaches, `r` restarts a service, `l` chooses whose logs are shown, `w` watches files
              or ends that, `h` tells the keys
    choosing  after `r` or `l`: a digit or a letter of the list; any other key leads back and does nothing

`Menu` is the state machine, and knows no terminal. `Keyboard` is the terminal: its keys come at once and unseen, everything
else of it (Ctrl-C, Ctrl-Z, the lines that are written) stays as it was.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
from collections.abc import Sequence
from enum import Enum
from types import FrameType

from orchestrator.values import frozen

HELP = "keys: d detaches, r restarts, l chooses logs, w watches, h helps; Ctrl-C stops"
_NAMES = "123456789abcdefghijklmnopqrstuvwxyz"
_ALL = "0"


class Act(Enum):
    DETACH = "detach"
    RESTART = "restart"
    SHOW = "show"
    WATCH = "watch"


@frozen
class Pressed:
    """What a key asks for. `service`: of `RESTART`, and of `SHOW`, where None is all. `text`: to be told; ""."""

    act: Act | None = None
    service: str | None = None
    text: str = ""


_NOTHING = Pressed()
_LISTS = {"r": (Act.RESTART, "restart"), "l": (Act.SHOW, "show the logs of")}


class Menu:
    """`services`: those that can be chosen, in the order of the list."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = dict(zip(_NAMES, services, strict=False))
        self._choosing: Act | None = None

    def press(self, key: str) -> Pressed:
        choosing, self._choosing = self._choosing, None
        if choosing is not None:
            return self._chosen(choosing, key)
        if key == "d":
            return Pressed(Act.DETACH)
        if key == "w":
            return Pressed(Act.WATCH)
        if key in ("h", "?"):
            return Pressed(text=HELP)
        if key not in _LISTS:
            return _NOTHING
        self._choosing, what = _LISTS[key]
        names = [f"{name} {service}" for name, service in self._services.items()]
        if self._choosing is Act.SHOW:
            names.insert(0, f"{_ALL} all")
        return Pressed(text=f"{what}: {', '.join(names)}; any other key: nothing")

    def _chosen(self, act: Act, key: str) -> Pressed:
        if act is Act.SHOW and key == _ALL:
            return Pressed(act, text="the logs of all services are shown")
        service = self._services.get(key)
        if service is None:
            return Pressed(text=f"{act.value}: nothing was chosen")
        text = f"only the logs of {service} are shown; l 0 shows all" if act is Act.SHOW else f"restarting {service}"
        return Pressed(act, service, text)


class Keyboard:
    """The terminal on stdin while the context is open (termios(3)), if there is one and we begin in its foreground: it is
    `there` then. To be waited for as long as it is `listening`."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._before: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Keyboard:
        with contextlib.suppress(OSError, ValueError, termios.error), contextlib.ExitStack() as stack:
            if not (sys.stdin.isatty() and self._in_foreground()):
                return self
            self._before = termios.tcgetattr(0)
            self._listen()
            stack.callback(self._restore)
            handlers = {signal.SIGCONT: self._continued, signal.SIGTSTP: self._stop, signal.SIGQUIT: self._stop}
            for number, handler in handlers.items():
                stack.callback(signal.signal, number, signal.signal(number, handler))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def there(self) -> bool:
        return self._before is not None

    @property
    def listening(self) -> bool:
        """Who reads from a terminal in the background is stopped (SIGTTIN)."""
        return self._before is not None and self._in_foreground()

    def fileno(self) -> int:
        return 0

    def take(self) -> str:
        """The keys that were pressed since, without waiting."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        events = poll.poll(0)
        if not events:
            return ""
        try:
            data = os.read(0, 256)
        except OSError:
            data = b""
        if not data:
            self._before = None  # It has gone, and would be readable for ever.
        return data.decode("utf-8", "replace") if not data.startswith(b"\x1b") else ""

    def _listen(self) -> None:
        assert self._before is not None
        mode = list(self._before)
        lflag = mode[3]
        assert isinstance(lflag, int)
        mode[3] = lflag & ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(0, termios.TCSADRAIN, mode)

    def _restore(self) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z, and Ctrl-\\, which ends us: the shell gets the terminal back as it was."""
        self._restore()
        ours = signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, ours)
        self._continued(number, frame)

    def _continued(self, number: int, frame: FrameType | None) -> None:
        """After SIGSTOP too, which we do not see. In the background the terminal is not ours; we are told again."""
        with contextlib.suppress(OSError, termios.error):
            if self.listening:
                self._listen()

    @staticmethod
    def _in_foreground() -> bool:
        try:
            return os.tcgetpgrp(0) == os.getpgrp()
        except OSError:
            return False
