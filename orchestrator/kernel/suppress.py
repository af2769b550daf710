"""contextlib's `suppress`, without what contextlib imports: a runtime's command pays for that each time."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class suppress:
    """What is raised in the block and is one of `kinds` ends the block, and is forgotten."""

    __slots__ = ("kinds",)

    def __init__(self, *kinds: type[BaseException]) -> None:
        self.kinds = kinds

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> bool:
        return kind is not None and issubclass(kind, self.kinds)
