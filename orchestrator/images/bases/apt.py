"""apt's solver and fetcher over an empty system: which packages, as files below the cache.

The machine's own sources and keys, but a state of our own: an empty status file, our archives, and our lists once the
machine's are missing or too old to fetch from. So nothing of the machine's apt is changed or locked, and what was fetched
once is there without a network. Packages that the machine's own cache holds are linked, after apt's hash has been checked
(every archive is hashed here, whoever fetched it).
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
    signed_by: str


@frozen
class Archive:
    """A .deb as apt wants it. `hash`: ``SHA256:HEX``."""

    uri: str
    file: str
    bytes: int
    hash: str


class _Failed(Exception):
    """apt-get ended with an error; its last lines are the argument."""


@entity
class Apt:
    """`cache`: a directory of ours, made when needed. `tell` gets sentences."""

    cache: str
    tell: Callable[[str], None]

    async def packages(self, wanted: Sequence[str]) -> list[str]:
        """Paths of the .debs of `wanted` and all that they depend on, in apt's order of unpacking: fetched, hashes checked.

        Raises InputError for a name that no source has, HostError without apt, OperationError if they cannot be fetched.
        """
        for name in wanted:
            if not _PACKAGE_NAME.match(name) and not name.startswith("?"):
                raise InputError(f'"{name}" is not the name of a Debian package', hint="write names as apt-get takes them")
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise HostError(
                "cannot make an image of Debian's packages without apt-get and dpkg-deb",
                hint="on a machine that is not a Debian or an Ubuntu, make busybox, alpine or host",
            )
        await trio.to_thread.run_sync(self._prepare)
        async with _locked(os.path.join(self.cache, "lock")):
            try:
                return await self._fetch(wanted)
            except _Failed as exc:
                first = exc
            self.tell("the package lists are missing or old: fetching them")
            try:
                await self._run("update", "-o", f"Dir::State::lists={self._lists}", "--error-on=any")
                return await self._fetch(wanted)
            except _Failed as exc:
                raise await self._explained(wanted, first, exc) from exc

    async def sources(self) -> tuple[Source, ...]:
        """The sources of packages that apt has lists of, without what a URI has of credentials."""
        form = "$(CREATED_BY)|$(SITE)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"
        lines = (await self._run("indextargets", "--format", form)).splitlines()
        found: dict[Source, None] = {}
        for line in lines:
            kind, _, uri, suite, component, signed_by = line.split("|", 5)
            if kind == "Packages":
                keyring = signed_by if signed_by.startswith("/") else ""
                found[Source(_without_credentials(uri), suite, component, keyring)] = None
        return tuple(found)

    async def setting(self, name: str) -> str:
        """A value of apt's configuration, or ""."""
        argv = ["apt-config", "shell", "value", name]
        done = await trio.run_process(argv, capture_stdout=True, stderr=subprocess.DEVNULL)
        return done.stdout.decode().strip().removeprefix("value=").strip("'")

    @property
    def _lists(self) -> str:
        return os.path.join(self.cache, "lists")

    @property
    def _archives(self) -> str:
        return os.path.join(self.cache, "archives")

    def _prepare(self) -> None:
        for name in ("archives/partial", "lists/partial", "state"):
            os.makedirs(os.path.join(self.cache, name), mode=0o700, exist_ok=True)
        with open(os.path.join(self.cache, "state", "status"), "ab"):
            pass  # The empty system, from which everything has to be installed.

    async def _fetch(self, wanted: Sequence[str]) -> list[str]:
        archives = [_archive(line) for line in (await self._run("install", "--print-uris", "-qq", *wanted)).splitlines()]
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
                with suppress(OSError):
                    _copy(os.path.join(_MACHINE_ARCHIVES, archive.file), path)
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
        options = {
            **_OPTIONS,
            "Dir::Cache": self.cache,
            "Dir::Cache::archives": self._archives,
            "Dir::State::status": os.path.join(self.cache, "state", "status"),
            "Dir::State::extended_states": os.path.join(self.cache, "state", "extended"),
        }
        if _fresher(self._lists, _MACHINE_LISTS):
            options["Dir::State::lists"] = self._lists
        argv = ["apt-get", verb, *(word for key, value in options.items() for word in ("-o", f"{key}={value}")), *arguments]
        done = await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False)
        if done.returncode != 0:
            raise _Failed(_last_lines(done.stderr.decode(errors="replace")))
        return done.stdout.decode(errors="replace")

    async def _explained(self, wanted: Sequence[str], first: _Failed, second: _Failed) -> InputError | OperationError:
        """Names that no list has are the user's; everything else is what apt says."""
        options = ["-o", f"Dir::State::lists={self._lists}"] if _fresher(self._lists, _MACHINE_LISTS) else []
        done = await trio.run_process(["apt-cache", *options, "pkgnames"], capture_stdout=True, check=False)
        known = set(done.stdout.decode().split())
        for name in wanted:
            if known and not name.startswith("?") and name.split(":")[0] not in known:
                near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
                hint = f"did you mean {near[0]}?" if near else "look for its name with `apt-cache search`"
                return InputError(f'no source of packages has "{name}"', hint=hint)
        hint = "is the network there, and is the disk full? what was fetched once is used without a network"
        says = str(first) if str(first) == str(second) else f"{first}; then, fetching the lists: {second}"
        return OperationError(f"apt cannot provide {' '.join(wanted)}: {says}", hint=hint)


@asynccontextmanager
async def _locked(path: str) -> AsyncIterator[None]:
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
    """A link where that is possible, for it is the same file; else a copy that is there whole or not at all."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
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
