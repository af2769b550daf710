"""The skeleton of the host image: the few files outside ``/usr`` that programs of this machine need, copied by allow-list.

What is in it: links or mount points for ``/bin /sbin /lib*``, the files of `_ETC`, account files that are made here, and
empty directories. What is not in it does not exist in the container. Of an allow-listed file only what *every* user of
the host may read anyway is taken: a private key that lies among the certificates stays out.

Reading and writing are apart: `collect` gives the whole skeleton as values, whose hash is the image's identity; `build`
writes them; `intact` says whether a directory still is what they say.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from enum import Enum

from orchestrator.errors import HostError
from orchestrator.images.accounts import made_group, made_passwd
from orchestrator.kernel.rooted import open_in, read_small_file
from orchestrator.values import entity, field, frozen

MOST_ENTRIES = 10_000
MOST_BYTES = 64 << 20
MOST_DEPTH = 16

LINKED_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Links into ``/usr`` on a merged system; real directories, to be mounted like ``/usr``, on an old one."""

_ETC = (
    "alternatives",
    "ca-certificates/extracted",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "java-*-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "mime.types",
    "networks",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "rpc",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)

_NSSWITCH = b"""\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
ethers: files
rpc: files
"""
"""Made, not copied: the host's may name services (systemd, sss, ldap) whose sockets are not here."""

_EMPTY: tuple[tuple[str, int], ...] = (
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
)


class Kind(Enum):
    DIRECTORY = "d"
    FILE = "f"
    LINK = "l"


_FILE_TYPE = {Kind.DIRECTORY: stat.S_IFDIR, Kind.FILE: stat.S_IFREG, Kind.LINK: stat.S_IFLNK}


@frozen
class Entry:
    """`path` is relative to the skeleton. `content`: a file's bytes or a link's text."""

    path: str
    kind: Kind
    mode: int = 0o755
    content: bytes = b""


@frozen
class Skeleton:
    """`entries` sorted by path, parents first. `directories`: names of top-level directories of the host to be mounted
    read-only (``usr``; also ``bin`` where that is no link)."""

    entries: tuple[Entry, ...]
    directories: tuple[str, ...]

    @property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for entry in self.entries:
            path, content = os.fsencode(entry.path), entry.content
            digest.update(b"%s %o %d %d " % (entry.kind.value.encode(), entry.mode, len(path), len(content)))
            digest.update(path + content)
        digest.update("/".join(self.directories).encode())
        return digest.hexdigest()

    def file(self, path: str) -> bytes:
        """The content of the file at `path`."""
        return next(entry.content for entry in self.entries if entry.path == path)


def collect(root: str = "/") -> Skeleton:
    """The skeleton of the system at `root`. Raises HostError when there is no ``/usr``, or more than it may hold."""
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise HostError(f"cannot read {root}: {exc.strerror}") from exc
    try:
        return _Collector(directory, os.readlink(f"/proc/self/fd/{directory}").rstrip("/")).collect()
    except OSError as exc:
        raise HostError(f"cannot read the host's {exc.filename or root}: {exc.strerror}") from exc
    finally:
        os.close(directory)


def fingerprint(root: str = "/") -> tuple[tuple[int, ...], ...]:
    """Changes when one of the allow-listed files or directories does; cheap (a stat each). Files deeper than one level
    in a directory are not looked at: what manages them (ldconfig, update-ca-certificates) touches the top as well."""
    found: list[tuple[int, ...]] = []
    for path in (*LINKED_DIRECTORIES, "etc", "etc/passwd", "etc/group", *(f"etc/{name}" for name in _ETC)):
        try:
            info = os.stat(os.path.join(root, path))
        except OSError:
            found.append((0,))
        else:
            found.append((info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
    return tuple(found)


@entity
class _Collector:
    """Paths are relative to `root`, whose path is `prefix`. Links are followed inside the root only."""

    root: int
    prefix: str
    entries: dict[str, Entry] = field(default_factory=dict)
    mounted: list[str] = field(default_factory=list)
    size_bytes: int = 0

    def collect(self) -> Skeleton:
        for path, mode in _EMPTY:
            self.add(Entry(path, Kind.DIRECTORY, mode))
        self._top_directories()
        for path in self._listed():
            self._take(path, path)
        self._made()
        return Skeleton(tuple(self.entries[path] for path in sorted(self.entries)), tuple(self.mounted))

    def add(self, entry: Entry) -> None:
        parent = os.path.dirname(entry.path)
        if parent and parent not in self.entries:
            self.add(Entry(parent, Kind.DIRECTORY))
        self.entries[entry.path] = entry
        self.size_bytes += len(entry.content)
        if len(self.entries) > MOST_ENTRIES or self.size_bytes > MOST_BYTES:
            raise HostError(
                f"the host image would be larger than {MOST_BYTES >> 20} MiB or {MOST_ENTRIES} files",
                hint=f"what has grown is near /{entry.path}",
            )

    def _top_directories(self) -> None:
        if not os.path.isdir(f"{self.prefix}/usr"):
            raise HostError("the host has no directory /usr")
        self.mounted.append("usr")
        for name in LINKED_DIRECTORIES:
            path = f"{self.prefix}/{name}"
            if os.path.islink(path):
                real = self._real(name)
                if real is not None and (real == "usr" or real.startswith("usr/")):
                    self.add(Entry(name, Kind.LINK, 0o777, os.fsencode(real)))
            elif os.path.isdir(path):
                self.mounted.append(name)
                self.add(Entry(name, Kind.DIRECTORY))

    def _listed(self) -> list[str]:
        """The allow-list with its patterns filled in."""
        present = sorted(os.listdir(f"{self.prefix}/etc"))
        found: list[str] = []
        for pattern in _ETC:
            names = fnmatch.filter(present, pattern) if "*" in pattern else [pattern]
            found.extend(f"etc/{name}" for name in names)
        return found

    def _take(self, source: str, target: str) -> None:
        """Copy the file, link or directory `source` to `target`, if everybody may read it; nothing if it is not there."""
        above = self._real(os.path.dirname(source))
        if above is None or not self._reachable(above):
            return
        self._copy(f"{above}/{os.path.basename(source)}", target, depth=0)

    def _copy(self, source: str, target: str, depth: int) -> None:
        try:
            mode = os.lstat(f"{self.prefix}/{source}").st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode):
            self._copy_link(source, target, depth)
        elif stat.S_ISDIR(mode) and mode & 0o005 == 0o005 and depth < MOST_DEPTH:
            self.add(Entry(target, Kind.DIRECTORY))
            for name in sorted(os.listdir(f"{self.prefix}/{source}")):
                self._copy(f"{source}/{name}", f"{target}/{name}", depth + 1)
        elif stat.S_ISREG(mode) and mode & 0o004:
            content = read_small_file(self.root, os.fsencode(source), MOST_BYTES)
            if content is not None:
                self.add(Entry(target, Kind.FILE, 0o755 if mode & 0o001 else 0o644, content))

    def _copy_link(self, source: str, target: str, depth: int) -> None:
        """A link into what is mounted stays a link; one that leads elsewhere becomes a copy of what it leads to."""
        real = self._real(source)
        if real is None:
            return
        if real.split("/")[0] in self.mounted:
            text = os.readlink(f"{self.prefix}/{source}")
            written = os.path.normpath(os.path.join("/", os.path.dirname(source), text))
            # A link over several hops would dangle here when one of them is not taken: then straight to its end.
            direct = source == target and written.split("/")[1] in self.mounted
            self.add(Entry(target, Kind.LINK, 0o777, os.fsencode(text if direct else f"/{real}")))
        elif os.path.dirname(real) == os.path.dirname(source) and source == target:
            # To a neighbour, which is taken as well (certificates are linked by their hashes).
            self.add(Entry(target, Kind.LINK, 0o777, os.fsencode(os.path.basename(real))))
        elif self._reachable(os.path.dirname(real)):
            self._copy(real, target, depth + 1)

    def _real(self, path: str) -> str | None:
        """Where `path` ends, relative to the root; None if it does not exist."""
        try:
            fd = open_in(self.root, os.fsencode(path or "."))
        except OSError:
            return None
        try:
            return os.readlink(f"/proc/self/fd/{fd}").removeprefix(self.prefix).lstrip("/")
        finally:
            os.close(fd)

    def _reachable(self, directory: str) -> bool:
        """Whether every user may pass through `directory` and all above it."""
        parts = directory.split("/") if directory else []
        paths = ("/".join(parts[: count + 1]) for count in range(len(parts)))
        return all(os.lstat(f"{self.prefix}/{path}").st_mode & 0o001 for path in paths)

    def _made(self) -> None:
        """What is written here, and what a container's own files are bound over."""
        passwd = read_small_file(self.root, b"etc/passwd") or b""
        group = read_small_file(self.root, b"etc/group") or b""
        files = {
            "etc/group": made_group(group, passwd),
            "etc/hostname": b"",
            "etc/hosts": b"",
            "etc/nsswitch.conf": _NSSWITCH,
            "etc/passwd": made_passwd(passwd),
            "etc/resolv.conf": b"",
        }
        for path, content in files.items():
            self.add(Entry(path, Kind.FILE, 0o644, content))
        self.add(Entry("etc/mtab", Kind.LINK, 0o777, b"../proc/self/mounts"))
        self.add(Entry("var/run", Kind.LINK, 0o777, b"../run"))


def build(skeleton: Skeleton, directory: str) -> None:
    """Write the skeleton into `directory`, which exists and is empty. Raises OSError."""
    os.chmod(directory, 0o755)
    for entry in skeleton.entries:
        path = os.path.join(directory, entry.path)
        if entry.kind is Kind.DIRECTORY:
            os.mkdir(path)
            os.chmod(path, entry.mode)
        elif entry.kind is Kind.LINK:
            os.symlink(entry.content, os.fsencode(path))
        else:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, entry.mode)
            with os.fdopen(fd, "wb") as file:
                file.write(entry.content)
                os.fchmod(file.fileno(), entry.mode)


def intact(skeleton: Skeleton, directory: str) -> bool:
    """Whether `directory` holds the skeleton by kinds, modes, sizes and link texts: a power cut leaves empty files."""
    for entry in skeleton.entries:
        path = os.path.join(directory, entry.path)
        try:
            info = os.lstat(path)
        except OSError:
            return False
        if stat.S_IFMT(info.st_mode) != _FILE_TYPE[entry.kind] or stat.S_IMODE(info.st_mode) != entry.mode:
            return False
        if entry.kind is Kind.FILE and info.st_size != len(entry.content):
            return False
        if entry.kind is Kind.LINK and os.readlink(os.fsencode(path)) != entry.content:
            return False
    return True
