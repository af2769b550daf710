"""The groups above those of a container that has a `cgroup_parent`: made when they are missing, removed again when nothing
is left in them, and only those that we have made, which carry a mark (an extended attribute of the directory)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from orchestrator.kernel.cgroup import Layout
from orchestrator.model.names import CGROUP_ROOT

_MARK = "trusted.pystack.made"


@contextlib.contextmanager
def parents_made(layout: Layout, group: str) -> Iterator[None]:
    """In the block the groups of `group` (relative to each root) are made."""
    missing = [path for root in layout.roots() for path in _parents(root, group) if not os.path.isdir(path)]
    try:
        yield
    finally:
        for path in missing:
            # Those hierarchies that the container does not need have not been touched; a kernel without extended
            # attributes for them leaves an empty group behind.
            with contextlib.suppress(OSError):
                os.setxattr(path, _MARK, b"y")


def remove_parents(layout: Layout, group: str) -> None:
    """After the container's own group is gone. What is in use, or was there before us, stays."""
    for root in layout.roots():
        parents = list(_parents(root, group))
        if not parents:
            continue
        ours = f"{parents[-1]}/{CGROUP_ROOT}"
        with contextlib.suppress(OSError):  # Another container is in it, or all of it is gone.
            os.rmdir(os.path.dirname(f"{root}/{group}"))
            os.rmdir(ours)
        with contextlib.suppress(OSError):
            for path in reversed(parents):
                os.getxattr(path, _MARK)
                os.rmdir(path)


def _parents(root: str, group: str) -> Iterator[str]:
    """The paths above ``pystack/KEY/CONTAINER``, the topmost first."""
    path = root
    for part in group.split("/")[:-3]:
        path = f"{path}/{part}"
        yield path
