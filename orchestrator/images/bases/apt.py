"""apt's solver and fetcher over an empty system: which packages, as files below the cache.

The machine's own sources and keys, but a state of our own: an empty status file, our archives, and our lists once the
machine's are missing or too old to fetch from. So nothing of the machine's apt is changed or locked, and what was fetched
once is there without a network. Packages that the machine's own cache holds are copied. Every archive's hash is checked
here, whoever fetched it.
"""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.values import entity, frozen

MOST_CACHE_BYTES = 2 << 30
"""Of archives that are kept; the least recently used go first."""

_MACHINE_LISTS = "/var/lib/apt/lists"
_MACHINE_ARCHIVES = "/var/cache/apt/archives"
_LOCK_RETRY_S = 0.05
_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?\Z")
"""Debian policy 5.6.1, and an architecture. Nothing that apt would take for an option, a pattern or a file."""

_OPTIONS = {
    "APT::Install-Recommends": "0",
    "APT::Install-Suggests": "0",
    "APT::Get::Assume-Yes": "1",
    "APT::Sandbox::User": "root",  # the cache is private to root; fetching as _apt could not write there
    "APT::Update::Post-Invoke": "",
    "Acquire::ForceHash": "SHA256",
    "Acquire::Languages": "none",
    "Acquire::Retries": "2",
    "Debug::NoLocking": "1",  # our own lock is around it
    "Dir::Cache::pkgcache": "pkgcache.bin",
    "Dir::Cache::srcpkgcache": "",
}


@frozen
class Source:
    """A line of sources.list(5): where the packages came from, for the apt inside the image."""

    uri: str
    suite: str
    component: str
    origin: str


@frozen
class Archive:
    """A .deb as apt wants it. `hash`: ``SHA256:HEX``."""

    uri: str
    file: str
    bytes: int
    hash: str

    @property
    def nearby(self) -> str:
        """Where this machine has it, if it does: a source that is a directory, which apt reads in place, or apt's cache."""
        parts = urllib.parse.urlsplit(self.uri)
        local = parts.scheme in ("file", "copy")
        return urllib.parse.unquote(parts.path) if local else os.path.join(_MACHINE_ARCHIVES, self.file)


class _Failed(Exception):
    """apt-get ended with an error; its last lines are the argument."""


@entity
class Apt:
    """`cache`: a directory of ours, made when needed. `tell` gets sentences."""

    cache: str
    tell: Callable[[str], None]
    _base: str = ""
    """Where base-files comes from."""

    async def packages(self, wanted: Sequence[str]) -> list[str]:
        """Paths of the .debs of `wanted` and all that they depend on, in apt's order of unpacking: fetched, hashes checked.

        Raises InputError for a name that no source has, HostError without apt, OperationError if they cannot be fetched.
        """
        for name in wanted:
            if not _PACKAGE_NAME.match(name) and not name.startswith("?"):
                raise InputError(f'"{name}" is not the name of a Debian package', hint="write names as apt-get takes them")
        if shutil.which("apt-get") is None:
            raise HostError(
                "cannot make an image of Debian's packages without apt-get",
                hint="on a machine that is not a Debian or an Ubuntu, make busybox, alpine or host",
            )
        await trio.to_thread.run_sync(self._prepare)
        async with locked(os.path.join(self.cache, "lock")):
            try:
                return await self._fetch(wanted)
            except _Failed as exc:
                first = exc
            if (unknown := await self._unknown(wanted)) is not None:
                raise unknown from first
            self.tell("the package lists are missing or old: fetching them")
            try:
                await self._run("update", "-o", f"Dir::State::lists={self._lists}", "--error-on=any")
                return await self._fetch(wanted)
            except _Failed as exc:
                unknown = await self._unknown(wanted)
                raise unknown if unknown is not None else _refusal(wanted, first, exc) from exc

    async def sources(self) -> tuple[Source, ...]:
        """The distribution's sources that a container can reach, without what a URI has of credentials: those of the
        origin that its package base-files comes from. Others would need keys that are not in the image."""
        form = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
        found: dict[Source, None] = {}
        origins = set()
        for line in (await self._run("indextargets", "--format", form)).splitlines():
            kind, uri, suite, component, origin = line.split("|", 4)
            if kind == "Packages" and uri.startswith(("http:", "https:")):
                component = "" if component.startswith("$") else component  # a repository without any
                found[Source(_without_credentials(uri), suite, component, origin)] = None
                if self._base.startswith(uri):
                    origins.add(origin)
        return tuple(source for source in found if source.origin in origins)

    async def setting(self, name: str) -> str:
        """A value of apt's configuration, or ""."""
        argv = ["apt-config", "shell", "value", name]
        done = await trio.run_process(argv, capture_stdout=True, stderr=subprocess.DEVNULL)
        return done.stdout.decode().strip().removeprefix("value=").strip("'")

    @property
    def _lists(self) -> str:
        return os.path.join(self.cache, "lists")

    @property
    def _nothing(self) -> str:
        """For apt tells only of archives that it has not."""
        return os.path.join(self.cache, "nothing")

    @property
    def _archives(self) -> str:
        return os.path.join(self.cache, "archives")

    def _prepare(self) -> None:
        for name in ("archives/partial", "lists/partial", "nothing/partial", "state"):
            os.makedirs(os.path.join(self.cache, name), mode=0o700, exist_ok=True)
        with open(os.path.join(self.cache, "state", "status"), "ab"):
            pass  # The empty system, from which everything has to be installed.

    async def _fetch(self, wanted: Sequence[str]) -> list[str]:
        listed = await self._run("install", "--print-uris", "-qq", *wanted, "-o", f"Dir::Cache::archives={self._nothing}")
        archives = [_archive(line) for line in listed.splitlines()]
        self._base = next((archive.uri for archive in archives if archive.file.startswith("base-files_")), self._base)
        found = await trio.to_thread.run_sync(self._present, archives)
        missing = [archive for archive in archives if archive.file not in found]
        if missing:
            size = sum(archive.bytes for archive in missing)
            self.tell(f"fetching {len(missing)} of {len(archives)} packages, {size / 1e6:.1f} MB")
            await self._run("install", "--download-only", "-qq", *wanted)
            found |= await trio.to_thread.run_sync(self._present, missing)
            lost = [archive.file for archive in missing if archive.file not in found]
            if lost:
                raise _Failed(f"what came as {lost[0]} is not what its list says")
        return [os.path.join(self._archives, archive.file) for archive in archives]

    def _present(self, archives: Sequence[Archive]) -> set[str]:
        """The files among `archives` that are in the cache, or are put there from the machine's; damaged ones go."""
        found = set()
        for archive in archives:
            path = os.path.join(self._archives, archive.file)
            if not os.path.exists(path):
                with suppress(FileNotFoundError):
                    _copy(archive.nearby, path)
            try:
                whole = os.stat(path).st_size == archive.bytes and _hash(path, archive.hash)
            except FileNotFoundError:
                continue
            if whole:
                os.utime(path)
                found.add(archive.file)
            else:
                os.unlink(path)
        return found

    def trim(self, most_bytes: int = MOST_CACHE_BYTES) -> None:
        """Remove the least recently used archives beyond `most_bytes`."""
        with os.scandir(self._archives) as entries:
            files = [(entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries if entry.is_file()]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= most_bytes:
                return
            os.unlink(path)
            total -= size

    async def _run(self, verb: str, *arguments: str) -> str:
        """apt-get over the empty system. Raises _Failed."""
        argv = ["apt-get", verb, *self._options(), *arguments]
        done = await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False)
        if done.returncode != 0:
            raise _Failed(_last_lines(done.stderr.decode(errors="replace")))
        return done.stdout.decode(errors="replace")

    def _options(self) -> list[str]:
        options = {
            **_OPTIONS,
            "Dir::Cache": self.cache,
            "Dir::Cache::archives": self._archives,
            "Dir::State::status": os.path.join(self.cache, "state", "status"),
            "Dir::State::extended_states": os.path.join(self.cache, "state", "extended"),
        }
        if _fresher(self._lists, _MACHINE_LISTS):
            options["Dir::State::lists"] = self._lists
        return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    async def _unknown(self, wanted: Sequence[str]) -> InputError | None:
        """The error if a name is in no list, though there are lists."""
        done = await trio.run_process(["apt-cache", *self._options(), "pkgnames"], capture_stdout=True, check=False)
        known = set(done.stdout.decode().split())
        for name in wanted:
            if known and not name.startswith("?") and name.split(":")[0] not in known:
                near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
                hint = f"did you mean {near[0]}?" if near else "look for its name with `apt-cache search`"
                return InputError(f'no source of packages has "{name}"', hint=hint)
        return None


def _refusal(wanted: Sequence[str], first: _Failed, second: _Failed) -> OperationError:
    names = " ".join(name for name in wanted if not name.startswith("?"))
    says = str(first) if str(first) == str(second) else f"{first}; then, with the lists fetched anew: {second}"
    hint = "is the network there, and is the disk full? what was fetched once is used without a network"
    return OperationError(f"apt cannot provide {names}: {says}", hint=hint)


@asynccontextmanager
async def locked(path: str) -> AsyncIterator[None]:
    """Hold `path`'s lock (flock(2)); it ends with the process. Another make holds it for seconds, and waiting for it can be
    cancelled (flock(2) in a thread could not)."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await trio.sleep(_LOCK_RETRY_S)
        yield
    finally:
        os.close(fd)


def _archive(line: str) -> Archive:
    """A line of --print-uris: ``'URI' FILE BYTES HASH``."""
    uri, file, size, hashed = line.rsplit(" ", 3)
    if "/" in file or file.startswith("."):
        raise _Failed(f"apt names a file {file!r}")
    return Archive(uri.strip("'"), file, int(size), hashed)


def _hash(path: str, hashed: str) -> bool:
    name, _, value = hashed.partition(":")
    algorithm = {"SHA256": "sha256", "SHA512": "sha512"}.get(name)
    if algorithm is None:
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest() == value.lower()


def _copy(source: str, target: str) -> None:
    """Whole or not at all. By reflink where the file system can."""
    shutil.copyfile(source, target + ".part")
    os.rename(target + ".part", target)


def _fresher(ours: str, machine: str) -> bool:
    """Whether our lists are there and no older than the machine's."""
    return _newest_list(ours) > _newest_list(machine)


def _newest_list(directory: str) -> float:
    with suppress(OSError), os.scandir(directory) as entries:
        return max((entry.stat().st_ctime for entry in entries if "_Packages" in entry.name), default=0.0)
    return 0.0


def _without_credentials(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _last_lines(text: str) -> str:
    """What apt complained about, in one line."""
    lines = [line[2:].strip() for line in text.splitlines() if line.startswith(("E:", "W:"))]
    return "; ".join(lines[:3]) or text.strip()[-300:] or "it ended with an error"
