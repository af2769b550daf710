"""``image: host``: the machine's own programs without its data.

The lower layer is the skeleton, kept as ``IMAGES/host-HASH`` and named after its content: built at most once, by rename, by
one builder at a time (a lock that a killed builder gives back), never changed afterwards. ``/usr`` is bound read-only.

To look whether it is there, the whole skeleton has to be read from the host and compared: 25 ms, which every ``up`` would
pay. So the maker leaves a note beside it (`_Note`) that says from which files it was made, by the stats of the few dozen
that are allow-listed. Whoever finds the note and the same stats has looked: 0.3 ms. A note counts until the next boot: only
a power cut damages what was made, and then the skeleton is read and compared again.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.contracts.images import Image, ImageConfig, ImageMount
from orchestrator.errors import HostError
from orchestrator.images import skeleton as skeletons
from orchestrator.images.skeleton import Skeleton
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.codec import from_json, to_json
from orchestrator.values import frozen

HOST_LABEL = "io.pystack.host"
"""Of an image built on ``host``: the identity of that host image, whose mounts it needs."""
_UNFINISHED = ".host-"
_NOTE = "host.json"
_UNFINISHED_NOTE = ".note-"


def boot_id() -> str:
    """This boot's id (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


Fingerprint = tuple[tuple[int, ...], ...]


@frozen
class _Note:
    """What was made, from what (`skeletons.fingerprint` of `root`), and during which boot it was seen to be whole."""

    boot: str
    root: str
    fingerprint: Fingerprint
    image: Image


class HostImage:
    """The host image of the system at `root` (another root than ``/`` is for tests)."""

    def __init__(self, images_dir: str, root: str = "/") -> None:
        self._images_dir = os.path.abspath(images_dir)
        self._root = root
        self._note: _Note | None = None
        self._looked: tuple[Fingerprint, Skeleton] | None = None
        """What `look` read, for the `make` that follows it."""

    def remembered(self) -> Image | None:
        """The image as it was last made or found, here or by another process since this boot, unless the host's files
        changed or it was deleted since. Changes nothing on disk. A few dozen stats and at most one small file."""
        fingerprint = skeletons.fingerprint(self._root)
        if self._note is None or self._note.fingerprint != fingerprint:
            self._note = self._read_note()
        note = self._note
        if note is None or (note.root, note.fingerprint) != (self._root, fingerprint):
            return None
        return note.image if os.path.isdir(note.image.lowers[0]) else None

    def look(self) -> Image | str:
        """The image if it is there and whole, else why it has to be made. Changes nothing on disk. Blocking: 25 ms; ask
        `remembered` first. Raises HostError."""
        fingerprint = skeletons.fingerprint(self._root)
        skeleton = skeletons.collect(self._root)
        image = self._image(skeleton)
        if skeletons.intact(skeleton, image.lowers[0]):
            self._note = _Note(boot_id(), self._root, fingerprint, image)
            return image
        self._looked = fingerprint, skeleton
        if os.path.lexists(image.lowers[0]):
            return "what was made of this machine's files is damaged"
        return "it has not been made of this machine's files as they are now"

    def make(self) -> Image:
        """The image, its skeleton built if there is none of this content. Blocking: 25 ms, 80 ms when it is built.
        Raises HostError."""
        looked, self._looked = self._looked, None
        fingerprint = skeletons.fingerprint(self._root)
        fresh = looked is not None and looked[0] == fingerprint
        skeleton = looked[1] if looked is not None and fresh else skeletons.collect(self._root)
        image = self._image(skeleton)
        try:
            if not skeletons.intact(skeleton, image.lowers[0]):
                self._build(skeleton, image.lowers[0])
            self._note = _Note(boot_id(), self._root, fingerprint, image)
            self._write_note(self._note)
        except OSError as exc:
            raise HostError(f"cannot make the host image in {self._images_dir}: {exc.strerror}") from exc
        return image

    def _image(self, skeleton: Skeleton) -> Image:
        """As it is, or will be once it is made."""
        identity = skeleton.identity
        return Image(
            reference="host",
            identity=f"sha256:{identity}",
            lowers=(os.path.join(self._images_dir, f"host-{identity[:32]}"),),
            config=ImageConfig(),
            mounts=tuple(ImageMount(os.path.join(self._root, name), f"/{name}") for name in skeleton.directories),
            passwd=skeleton.file("etc/passwd"),
            group=skeleton.file("etc/group"),
            no_new_privileges=True,
        )

    def _read_note(self) -> _Note | None:
        """The last maker's, if it is of this boot and can be read."""
        try:
            with open(os.path.join(self._images_dir, _NOTE), encoding="utf-8") as file:
                note = from_json(_Note, json.load(file))
        except (OSError, ValueError):
            return None
        return note if note.boot == boot_id() and os.path.dirname(note.image.lowers[0]) == self._images_dir else None

    def _write_note(self, note: _Note) -> None:
        """Whole or not at all. Raises OSError."""
        fd, temporary = tempfile.mkstemp(prefix=_UNFINISHED_NOTE, dir=self._images_dir)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(to_json(note), file)
            os.rename(temporary, os.path.join(self._images_dir, _NOTE))
        except BaseException:
            os.unlink(temporary)
            raise

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
