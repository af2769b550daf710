"""The groups above those of a container that has a `cgroup_parent`: made when they are missing, removed again when nothing
is left in them, and only those that we have made, which carry a mark (an extended attribute of the directory)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from orchestrator.kernel.cgroup import Layout

_MARK = "trusted.pystack.made"


@contextlib.contextmanager
def parents_made(layout: Layout, group: str, own: int = 3) -> Iterator[None]:
    """In the block the groups of `group` (relative to each root) are made. `own`: how many of its last parts are the
    container's: ``pystack/KEY/CONTAINER``."""
    missing = [path for root in layout.roots() for path in _parents(root, group, own) if not os.path.isdir(path)]
    try:
        yield
    finally:
        for path in missing:
            # Those hierarchies that the container does not need have not been touched; a kernel without extended
            # attributes for them leaves an empty group behind.
            with contextlib.suppress(OSError):
                os.setxattr(path, _MARK, b"y")


def remove_parents(layout: Layout, group: str, own: int = 3) -> None:
    """After the container's own group is gone. What is in use, or was there before us, stays."""
    for root in layout.roots():
        parents = list(_parents(root, group, own))
        if not parents:
            continue
        with contextlib.suppress(OSError):  # Another container is in it, or all of it is gone.
            above = os.path.dirname(f"{root}/{group}")
            while above != parents[-1]:
                os.rmdir(above)
                above = os.path.dirname(above)
        with contextlib.suppress(OSError):
            for path in reversed(parents):
                os.getxattr(path, _MARK)
                os.rmdir(path)


def _parents(root: str, group: str, own: int) -> Iterator[str]:
    """The paths above the container's own, the topmost first."""
    path = root
    for part in group.split("/")[:-own]:
        path = f"{path}/{part}"
        yield path
