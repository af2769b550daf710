"""The image that a rebuild replaces: gone when nothing has it any more, as `--prune` wants it."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.cli.imagework import store_of, users_of_images
from orchestrator.cli.settings import Settings
from orchestrator.errors import PystackError
from orchestrator.images.spec.digest import Digest


class Pruning:
    """`image`: the name of what is about to be built anew."""

    def __init__(self, settings: Settings, image: str) -> None:
        self._settings = settings
        found = store_of(settings).find(image)
        self._before = found.id if found is not None else None

    def finish(self, tell: Callable[[str], None]) -> None:
        """Remove the image of before, unless it has a name or a container still."""
        if self._before is None:
            return
        try:
            store, users = store_of(self._settings), users_of_images(self._settings)
            found = store.get(self._before)
            if found is None or found.names or self._before in users:
                return
            store.forget(self._before)
            store.collect(in_use=frozenset(map(Digest, users)), unnamed=False, unused=False)
        except PystackError as error:
            tell(f"the image of before was not removed: {error}")
