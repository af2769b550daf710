"""Files into and out of a container, by the rules of ``docker cp`` (docs/cli.md, "cp").

Whatever is looked for in the container is looked for from its root (`runtime.view`), name by name: nothing leads out.
"""

from __future__ import annotations

import os
import posixpath
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import BinaryIO, cast

from orchestrator.build.commit import ACLS, CAPABILITY
from orchestrator.build.export import as_seen_inside
from orchestrator.contracts.site import IdMap
from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.images.unpack.applier import clean
from orchestrator.images.unpack.decode import decoded
from orchestrator.images.unpack.entries import Entry, Kind, shown
from orchestrator.images.unpack.limits import DEFAULT
from orchestrator.images.unpack.merged import Merged
from orchestrator.images.unpack.packing import TarStream
from orchestrator.images.unpack.placing import UNLIMITED, Placer
from orchestrator.images.unpack.reading import read_entries
from orchestrator.images.unpack.walking import Walk
from orchestrator.kernel.identity import own_gid, own_uid
from orchestrator.kernel.process import making_files_as
from orchestrator.oci.users import MAX_ID
from orchestrator.runtime.view import View
from orchestrator.values import frozen, replace

_SET_IDS = 0o6000
_USER = b"user."
_ACL_USER, _ACL_GROUP = 0x02, 0x08
"""linux/posix_acl.h: the tags of the entries that name an id."""
_CAPS_2, _CAPS_3, _CAPS_REVISION = 0x02000000, 0x03000000, 0xFF000000
"""linux/capability.h: VFS_CAP_REVISION_2, _3 and _MASK."""
_MOST_SHOWN = 5
Change = Callable[[Entry], Entry]
Warn = Callable[[str], None]


@frozen
class Source:
    """`root`: a directory; `top`: what is copied, below it, without links on the way. `name`: what it is called in a
    directory that it is put into; "." if its content alone is meant. `written`: by the user. `label`: `root` for people."""

    root: str
    top: bytes
    name: bytes
    is_directory: bool
    written: str
    label: str = ""


@frozen
class Copying:
    """`archive`: owners, extended attributes and set-id bits too. `follow`: a link as source is what it leads to."""

    archive: bool
    follow: bool
    warn: Warn


# ---- what is meant ---------------------------------------------------------------------------------------------------


def local_source(path: str, copying: Copying) -> Source:
    """Raises InputError when there is none."""
    through, content = _asks(path)
    try:
        if copying.follow or through:
            real = os.path.realpath(path, strict=True)
        else:
            above, name = os.path.split(path)
            real = os.path.join(os.path.realpath(above or ".", strict=True), name)
        found = os.lstat(real)
    except OSError as exc:
        raise InputError(f"cannot read {path}: {exc.strerror}") from exc
    is_directory = stat.S_ISDIR(found.st_mode)
    if through and not is_directory:
        raise InputError(f"{path} is no directory")
    root, top = os.path.split(real)
    own = os.path.basename(path.rstrip("/")) if not through or not content else ""
    name = "." if content or not own or own == ".." else own
    return Source(root, os.fsencode(top), os.fsencode(name), is_directory, path, root)


def container_source(view: Merged, root: str, path: str, container: str, copying: Copying) -> Source:
    """Raises OperationError when there is none."""
    through, content = _asks(path)
    with _looking(path, container):
        if copying.follow or through:
            real = view.resolve(path)
        else:
            above, _, name = path.rpartition("/")
            real = posixpath.join(view.resolve(above), name)
        found = view.stat(real)
    if found is None:
        raise OperationError(f'there is no "{path}" in container {container}')
    is_directory = stat.S_ISDIR(found.st_mode)
    if through and not is_directory:
        raise OperationError(f'"{path}" in container {container} is no directory')
    own = posixpath.basename(path.rstrip("/"))
    name = "." if content or not own or own == ".." else own
    return Source(root, os.fsencode(real.strip("/")), os.fsencode(name), is_directory, path)


def _asks(path: str) -> tuple[bool, bool]:
    """Whether a source has to be a directory, and whether its content alone is meant."""
    last = path.rpartition("/")[2]
    return last in ("", ".", ".."), last == "."


@contextmanager
def _looking(path: str, container: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OperationError(f'cannot look at "{path}" in container {container}: {exc.strerror}') from exc


def _placed(source: Source, there: os.stat_result | None, destination: str, written: str) -> tuple[str, bytes]:
    """The directory that it goes into, and what it is called there. `there`: what is at `destination`, which is `written`
    so. Raises OperationError."""
    if there is not None and stat.S_ISDIR(there.st_mode):
        return destination, source.name
    if there is not None and source.is_directory:
        raise OperationError(f'"{written}" is no directory: {source.written} cannot be copied to it')
    if written.endswith(("/", "/.")) and (there is not None or not source.is_directory):
        what = "is no directory" if there is not None else "does not exist"
        raise OperationError(f'"{written}" {what}', hint="without the slash at its end it is the name of a file")
    above, _, name = destination.rpartition("/")
    return above or "/", os.fsencode(name)


# ---- out of a container ----------------------------------------------------------------------------------------------


def copy_out(view: View, container: str, path: str, destination: str, copying: Copying) -> None:
    """To this machine. Raises OperationError, HostError."""
    with Merged([view.path]) as merged:
        source = container_source(merged, view.path, path, container, copying)
    real = os.path.realpath(destination)
    there = os.stat(real) if os.path.exists(real) else None
    into, name = _placed(source, there, real, destination)
    if not os.path.isdir(into):
        raise OperationError(f"there is no directory {into}", hint="make it")
    owner = (own_uid(), own_gid())
    change = _outward_kept(view.ids) if copying.archive else _outward(owner)
    _copy(source, name, f"{into}/.", b"", owner, change, copying)


def stream_out(view: View, container: str, path: str, out: BinaryIO, copying: Copying) -> None:
    """As a tar stream. Raises OperationError, HostError, and BrokenPipeError."""
    with Merged([view.path]) as merged:
        source = container_source(merged, view.path, path, container, copying)
    change, stream, count = _outward_kept(view.ids), TarStream(out), 0
    with Walk(source.root, source.label, xattrs=copying.archive, holes=False, devices=True) as walk:
        try:
            for entry, data in walk.entries(source.top, source.name):
                stream.put(change(entry))
                count += 1
                if data is not None:
                    stream.data(data, entry.size)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise HostError(f"cannot copy {path} of container {container}: {exc.strerror}") from exc
        _tell(walk, count, source, copying)
    stream.end()


def _outward(owner: tuple[int, int]) -> Change:
    uid, gid = owner
    return lambda entry: replace(entry, uid=uid, gid=gid, mode=entry.mode & ~_SET_IDS)


def _outward_kept(ids: IdMap) -> Change:
    return lambda entry: _plain(as_seen_inside(entry, ids))


# ---- into a container ------------------------------------------------------------------------------------------------


def copy_in(view: View, container: str, source: Source, destination: str, copying: Copying) -> None:
    """From this machine. Raises OperationError, HostError."""
    written = destination or "/"
    with Merged([view.path]) as merged, _looking(written, container):
        real = merged.resolve(written)
        into, name = _placed(source, merged.stat(real), real, written)
        above = merged.stat(into)
    if above is None or not stat.S_ISDIR(above.st_mode):
        raise OperationError(f'there is no directory "{into}" in container {container}', hint="make it")
    _copy(source, name, view.path, os.fsencode(into), _root_of(view), _inward(view, copying), copying, making=view.ids)


def stream_in(view: View, container: str, archive: BinaryIO, destination: str, copying: Copying) -> None:
    """The entries of a tar stream, compressed or not. Raises OperationError, HostError."""
    with Merged([view.path]) as merged, _looking(destination, container):
        real = merged.resolve(destination or "/")
        there = merged.stat(real)
    if there is None or not stat.S_ISDIR(there.st_mode):
        raise OperationError(f'"{destination}" in container {container} is no directory: no archive is unpacked there')
    change, into, left_out = _inward(view, copying), os.fsencode(real), 0
    with (
        making_files_as(view.ids.outside(0)),
        decoded(archive, DEFAULT) as stream,
        Placer(view.path, _root_of(view), keep=not copying.archive) as placer,
    ):
        for entry, data in read_entries(cast(BinaryIO, stream), UNLIMITED):
            if entry.kind in (Kind.CHARACTER, Kind.BLOCK):
                left_out += 1
            elif clean(entry.path):
                placer.add(_below(change(entry), into), data)
        placer.finish()
        stream.drain()
    if left_out:
        copying.warn(f"{left_out} devices of the archive are left out")


def _inward(view: View, copying: Copying) -> Change:
    uid, gid = _root_of(view)
    if not copying.archive:
        return lambda entry: replace(entry, uid=uid, gid=gid, xattrs={})
    return lambda entry: _as_seen_outside(_plain(entry), view.ids)


def _root_of(view: View) -> tuple[int, int]:
    return view.ids.outside(0), view.ids.outside(0)


def _below(entry: Entry, into: bytes) -> Entry:
    """With paths from the container's root; what leads up in an archive stays below `into`."""
    path, link = (b"/".join(clean(each)) for each in (entry.path, entry.link))
    return _put_below(replace(entry, path=path, link=link if entry.kind is Kind.HARDLINK else entry.link), into)


def _put_below(entry: Entry, into: bytes) -> Entry:
    """As `_below`, for paths that have nothing of that kind: those of a walk."""
    above = into.strip(b"/") + b"/" if into.strip(b"/") else b""
    link = above + entry.link.removeprefix(b"./") if entry.kind is Kind.HARDLINK else entry.link
    return replace(entry, path=above + entry.path.removeprefix(b"./"), link=link)


# ---- both ------------------------------------------------------------------------------------------------------------


def _copy(
    source: Source,
    name: bytes,
    target: str,
    into: bytes,
    owner: tuple[int, int],
    change: Change,
    copying: Copying,
    *,
    making: IdMap | None = None,
) -> None:
    """`making`: whose root makes the files."""
    if name == b"." and not source.is_directory:
        raise OperationError(f"{source.written} has no name to be called by")
    count = 0
    with (
        making_files_as(making.outside(0)) if making is not None else nullcontext(),
        Walk(source.root, source.label, xattrs=copying.archive) as walk,
        Placer(target, owner, keep=not copying.archive) as placer,
    ):
        try:
            for entry, data in walk.entries(source.top, name):
                count += 1
                if entry.path != b"./":
                    placer.add(_put_below(change(entry), into), data)
            placer.finish()
        except OSError as exc:
            raise HostError(f"cannot read {source.written}: {exc.strerror}") from exc
        _tell(walk, count, source, copying)


def _tell(walk: Walk, count: int, source: Source, copying: Copying) -> None:
    """What was not copied: a warning, or if that is all that was asked for, an error."""
    if not count:
        reason = walk.left_out[0] if walk.left_out else f"{source.written} has changed meanwhile"
        raise OperationError(f"{source.written} cannot be copied: {reason}")
    for text in walk.left_out[:_MOST_SHOWN]:
        copying.warn(f"left out: {text}")
    if len(walk.left_out) > _MOST_SHOWN:
        copying.warn(f"left out: {len(walk.left_out) - _MOST_SHOWN} more")
    if walk.changed:
        copying.warn(f"{walk.changed} files of {source.written} changed while they were being read")


def _plain(entry: Entry) -> Entry:
    """Without what belongs to a machine: the attributes named ``trusted``."""
    kept = {name: value for name, value in entry.xattrs.items() if name.startswith(_USER) or _has_ids(name)}
    return replace(entry, xattrs=kept)


def _has_ids(name: bytes) -> bool:
    return name == CAPABILITY.encode() or name.decode(errors="replace") in ACLS


def _as_seen_outside(entry: Entry, ids: IdMap) -> Entry:
    """An entry with the container's ids has the host's; the opposite of `build.export.as_seen_inside`."""
    if entry.kind is Kind.HARDLINK:
        return entry
    if entry.uid > MAX_ID - 1 or entry.gid > MAX_ID - 1:
        what = f"{shown(entry.path)} belongs to {entry.uid}:{entry.gid}"
        raise OperationError(f"{what}, and the highest id of a container is {MAX_ID - 1}")
    xattrs = {}
    for name, value in entry.xattrs.items():
        if name == CAPABILITY.encode():
            value = _outer_capability(value, ids)
        elif _has_ids(name):
            value = _outer_acl(value, ids)
        xattrs[name] = value
    return replace(entry, uid=ids.outside(entry.uid), gid=ids.outside(entry.gid), xattrs=xattrs)


def _outer_acl(value: bytes, ids: IdMap) -> bytes:
    """acl(5) as the kernel has it in an extended attribute: a version, then tag, permissions and id of each entry."""
    entries = bytearray(value)
    for offset in range(4, len(value) - 7, 8):
        tag, _, number = struct.unpack_from("<HHI", value, offset)
        if tag in (_ACL_USER, _ACL_GROUP) and number < MAX_ID:
            struct.pack_into("<I", entries, offset + 4, ids.outside(number))
    return bytes(entries)


def _outer_capability(value: bytes, ids: IdMap) -> bytes:
    """Of the host's root (revision 2) becomes one of the container's (3): capabilities(7)."""
    (magic,) = struct.unpack_from("<I", value)
    if magic & _CAPS_REVISION != _CAPS_2 or not ids.outside(0):
        return value
    return struct.pack("<I", magic & ~_CAPS_REVISION | _CAPS_3) + value[4:20] + struct.pack("<I", ids.outside(0))
