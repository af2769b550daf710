"""``image: rootfs:DIR``: a directory that holds an unpacked root file system, used as the lower layer as it is.

Its content may be anybody's: of its files only passwd and group are read, inside the root and bounded.
"""

from __future__ import annotations

import os

from orchestrator.contracts.images import Image
from orchestrator.errors import InputError, OperationError
from orchestrator.images.reference import RootfsReference
from orchestrator.kernel.rooted import read_small_file
from orchestrator.model.names import short_hash


def resolve_rootfs(reference: RootfsReference, working_dir: str) -> Image:
    """The image of the directory; a relative one starts at `working_dir`.

    Its identity is the directory itself (path and inode), not what is in it: a directory that is replaced is another
    image, one whose files change is the same. Raises OperationError when it does not exist, InputError for ``/``.
    """
    directory = os.path.realpath(os.path.join(working_dir, reference.directory))
    name = f'image "rootfs:{reference.directory}"'
    if directory == "/":
        raise InputError(f"{name} is this machine's own root", hint="use `image: host`: it shows programs, not data")
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise OperationError(f"{name}: {directory} does not exist") from exc
    except NotADirectoryError as exc:
        raise OperationError(f"{name}: {directory} is not a directory") from exc
    except OSError as exc:
        raise OperationError(f"{name}: cannot open {directory}: {exc.strerror}") from exc
    try:
        info = os.fstat(root)
        return Image(
            reference=f"rootfs:{reference.directory}",
            identity="dir:" + short_hash(f"{directory}\0{info.st_dev}\0{info.st_ino}", 32),
            lowers=(directory,),
            passwd=read_small_file(root, b"etc/passwd") or b"",
            group=read_small_file(root, b"etc/group") or b"",
        )
    finally:
        os.close(root)
