"""``image: host``: the machine's own programs without its data.

The lower layer is the skeleton, kept as ``IMAGES/host-HASH`` and named after its content: built at most once, by rename, by
one builder at a time (a lock that a killed builder gives back), never changed afterwards. ``/usr`` is bound read-only.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.contracts.images import Image, ImageConfig, ImageMount
from orchestrator.errors import HostError
from orchestrator.images import skeleton as skeletons
from orchestrator.images.skeleton import Skeleton
from orchestrator.kernel.trees import remove_tree

_UNFINISHED = ".host-"


class HostImage:
    """The host image of the system at `root` (another root than ``/`` is for tests)."""

    def __init__(self, images_dir: str, root: str = "/") -> None:
        self._images_dir = images_dir
        self._root = root
        self._seen: tuple[tuple[tuple[int, ...], ...], Image] | None = None

    def cached(self) -> Image | None:
        """The image as it was last made, unless the host's files changed or it was deleted since. A few dozen stats."""
        if self._seen is None:
            return None
        fingerprint, image = self._seen
        unchanged = fingerprint == skeletons.fingerprint(self._root) and os.path.isdir(image.lowers[0])
        return image if unchanged else None

    def make(self) -> Image:
        """The image, its skeleton built if there is none of this content. Blocking: 10 ms, 60 ms when it is built.
        Raises HostError."""
        fingerprint = skeletons.fingerprint(self._root)
        skeleton = skeletons.collect(self._root)
        directory = os.path.join(os.path.abspath(self._images_dir), f"host-{skeleton.identity[:32]}")
        try:
            if not skeletons.intact(skeleton, directory):
                self._build(skeleton, directory)
        except OSError as exc:
            raise HostError(f"cannot make the host image in {self._images_dir}: {exc.strerror}") from exc
        image = Image(
            reference="host",
            identity=f"sha256:{skeleton.identity}",
            lowers=(directory,),
            config=ImageConfig(),
            mounts=tuple(ImageMount(os.path.join(self._root, name), f"/{name}") for name in skeleton.directories),
            passwd=skeleton.file("etc/passwd"),
            group=skeleton.file("etc/group"),
            no_new_privileges=True,
        )
        self._seen = fingerprint, image
        return image

    def _build(self, skeleton: Skeleton, directory: str) -> None:
        os.makedirs(self._images_dir, mode=0o700, exist_ok=True)
        with _exclusively(self._images_dir):
            for name in os.listdir(self._images_dir):
                # Only a builder that was killed leaves one: we have the lock.
                if name.startswith(_UNFINISHED):
                    remove_tree(os.path.join(self._images_dir, name))
            if skeletons.intact(skeleton, directory):
                return
            unfinished = tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._images_dir)
            try:
                skeletons.build(skeleton, unfinished)
                if os.path.isdir(directory):
                    # Damaged, as by a power cut: no container of this boot was made from it.
                    remove_tree(directory)
                os.rename(unfinished, directory)
            finally:
                if os.path.isdir(unfinished):
                    remove_tree(unfinished)


@contextmanager
def _exclusively(directory: str) -> Iterator[None]:
    """Hold the directory's lock (flock(2)); it ends with the process."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
