"""A watch beside something else, which may be begun and ended: that of ``up --watch``, and of the key `w`."""

from __future__ import annotations

from contextlib import ExitStack

from orchestrator.errors import PystackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    from orchestrator.cli.watching.session import Watching
    from orchestrator.contracts.events import Event

    Opened = Callable[[], AbstractContextManager[Watching]]
    """Begins to look at files. Raises what is wrong with the rules, and BusyError when somebody else watches."""


class Beside:
    """`opened`: None: there is none, and never will be. A context manager: nothing is watched any more after it."""

    def __init__(self, opened: Opened | None = None) -> None:
        self._opened = opened
        self._stack = ExitStack()
        self._watching: Watching | None = None

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def open(self) -> None:
        """Files are looked at from now on; what changes is kept for `begin`. Raises what `opened` does."""
        if self._opened is not None and self._watching is None:
            self._watching = self._stack.enter_context(self._opened())

    def begin(self) -> None:
        """The services are there."""
        if self._watching is not None:
            self._watching.begin()
            self.pump()

    def end(self) -> None:
        self._watching = None
        self._stack.close()

    def toggle(self) -> bool:
        """Begin, or end; whether it was begun. Raises what `open` does."""
        if self._watching is not None:
            self.end()
            return False
        self.open()
        self.begin()
        return True

    @property
    def busy(self) -> bool:
        """An operation of it is under way: what ends now comes back."""
        return self._watching is not None and self._watching.busy

    def sources(self) -> list[Any]:
        return self._watching.sources() if self._watching is not None else []

    def left_s(self) -> float | None:
        return self._watching.left_s() if self._watching is not None else None

    def notice(self, event: Event) -> None:
        if self._watching is not None:
            self._watching.notice(event)

    def missed(self) -> None:
        if self._watching is not None:
            self._watching.missed()

    def pump(self) -> None:
        """What it is beside goes on when it can't: the kernel watches no more folders."""
        if (watching := self._watching) is None:
            return
        try:
            watching.pump()
        except PystackError as error:
            watching.given_up(error)
            self.end()
