"""What the verbs about images share: the store, work that runs without a supervisor, and names for people."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from orchestrator.cli.render.transfers import Transfers
from orchestrator.errors import KINDS, OperationError, PystackError
from orchestrator.images.together import run_to_end
from orchestrator.values import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.cli.settings import Settings
    from orchestrator.images.store.store import Store
    from orchestrator.images.store.values import StoredImage
    from orchestrator.images.stored import StoredImages
    from orchestrator.model.project import Project

T = TypeVar("T")


def data_root_of(settings: Settings) -> str:
    from orchestrator.state.directory import DEFAULT_DATA

    return settings.data_root or DEFAULT_DATA


def run_root_of(settings: Settings) -> str:
    from orchestrator.state.directory import DEFAULT_RUN

    return settings.environ.get("PYSTACK_RUN_DIR") or DEFAULT_RUN


def store_of(settings: Settings) -> Store:
    import os

    from orchestrator.images.store.store import Store

    return Store(os.path.join(data_root_of(settings), "images"))


def stored_of(settings: Settings) -> StoredImages:
    from orchestrator.images.stored import StoredImages

    return StoredImages(store_of(settings))


@contextlib.contextmanager
def transfers_of(settings: Settings, *, quiet: bool = False) -> Iterator[Transfers]:
    """The progress of a command, on stderr."""
    terminal = settings.terminal()
    transfers = Transfers(replace(terminal, progress="quiet") if quiet else terminal)
    try:
        yield transfers
    finally:
        transfers.close()


def carry_out(
    settings: Settings, work: Callable[[Transfers], Awaitable[T]], *, quiet: bool = False, cut_short: str = ""
) -> T:
    """Run `work` to its end, with its progress on stderr. Ctrl-C, SIGTERM and SIGHUP cancel it: what came stays, for the
    next time; `cut_short` says what is so then. Raises the one error that it raised."""
    with transfers_of(settings, quiet=quiet) as transfers:
        try:
            return run_to_end(lambda: work(transfers), tick=transfers.tick, each_s=transfers.interval_s)
        except KeyboardInterrupt:
            with contextlib.suppress(OSError):  # The terminal may be gone.
                transfers.close()
                if cut_short:
                    transfers.note(cut_short)
            raise


def located(error: PystackError, project: Project, path: str) -> PystackError:
    """`error`, at the compose path that it names or this one, unless it has its place in a file already."""
    place = project.where(error.place or path)
    if place == error.place:
        return error
    kind = KINDS.get(error.kind, OperationError)
    return kind(error.message, hint=error.hint, exit_code=error.exit_code, place=place)


def found(store: Store, text: str) -> StoredImage:
    """The image that `text` means: a name, an id, the beginning of an id. Raises OperationError if there is none."""
    image = store.find(text)
    if image is None:
        raise OperationError(f'image "{text}" is not here', hint=_like(store, text))
    return image


def _like(store: Store, text: str) -> str:
    from orchestrator.cli.selection import nearest

    close = nearest(text, familiar_names(store.names()))
    return f'did you mean "{close}"?' if close else "`pystack image ls` lists those that are"


def familiar_names(names: Iterable[str]) -> list[str]:
    """As people write them, without those that only the store knows (of archives)."""
    return [familiar(name) for name in names if is_public(name)]


def is_public(name: str) -> bool:
    """Not the note of an archive that was loaded."""
    from orchestrator.images.reference import TRANSPORTS

    return name.partition(":")[0] not in TRANSPORTS or "#" not in name


def familiar(name: str) -> str:
    """Of one that `is_public`."""
    from orchestrator.images.reference import parse_named

    return parse_named(name).familiar


def users_of_images(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The containers of all projects by the id of their image."""
    from orchestrator.state.image_users import users_of_images

    return users_of_images(data_root_of(settings))


_AGES = ((60, "second"), (3600, "minute"), (86400, "hour"), (604800, "day"), (2592000, "week"), (31536000, "month"))


def age(created_s: float) -> str:
    """``3 days ago``."""
    passed = max(0.0, time.time() - created_s)
    if passed < 1:
        return "just now"
    step, unit = 1.0, "second"
    for limit, name in _AGES:
        unit = name
        if passed < limit:
            break
        step = limit
    else:
        unit = "year"
    number = int(passed // (step if passed >= step else 1))
    return f"{number} {unit}{'' if number == 1 else 's'} ago"


def instant(created_s: float) -> str:
    """``2026-11-25 22:24:09 +0000 UTC``, as Docker writes it."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(created_s))
