"""What comes from elsewhere: ADD of a URL or of a Git repository, and contexts that are one. Into directories of the
store's ``tmp/``, which are deleted when the step, or the build, is over.
"""

from __future__ import annotations

import calendar
import email.utils
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import trio

from orchestrator.build.copying import Copier, Placing, Text
from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.images.store.store import Store
from orchestrator.images.unpack.limits import Limits
from orchestrator.kernel.trees import remove_tree
from orchestrator.values import frozen

_CHUNK = 1 << 18
_TIMEOUT_S = 60.0
_GIT_SCHEMES = ("git://", "ssh://", "git@")
_GIT_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.askPass=true",
    "core.sshCommand=ssh -oBatchMode=yes",
    "protocol.file.allow=never",
    "protocol.ext.allow=never",
    "maintenance.auto=false",
    "gc.auto=0",
)
"""Nobody is asked anything, a Dockerfile is no reason to read this machine or to run something on it, and no process of
git's goes on in the background."""


@frozen
class GitSource:
    """`ref`: a branch, a tag or a commit; "": the default branch. `directory`: below the repository's root."""

    url: str
    ref: str = ""
    directory: str = ""


def is_remote(text: str) -> bool:
    return text.startswith(("http://", "https://", *_GIT_SCHEMES))


def git_source(text: str) -> GitSource | None:
    """None for what is no Git repository's address: one that ends in ``.git``, or begins as only Git's do.
    ``#REF:DIRECTORY`` may follow. Raises InputError."""
    url, _, fragment = text.partition("#")
    if not url.startswith(_GIT_SCHEMES) and not (is_remote(url) and urlsplit(url).path.endswith(".git")):
        return None
    ref, _, directory = fragment.partition(":")
    if ref.startswith("-") or any(part == ".." for part in directory.split("/")):
        raise InputError(f'"{text}" is no address of a Git repository', hint="write URL#REF:DIRECTORY")
    return GitSource(url, ref, directory.strip("/"))


class Fetched:
    """Made by `fetched`: into the directory `place`."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._count = 0

    def _path(self, name: str) -> str:
        self._count += 1
        return os.path.join(self._place, f"{self._count}-{name}")

    async def url(self, url: str, checksum: str = "", *, most_bytes: int = Limits().bytes) -> Text:
        """The file at `url`, named after the last part of its path. `checksum`: ``sha256:HEX`` that it must have. Raises
        OperationError."""
        import httpx

        path = self._path("file")
        hashed = hashlib.sha256()
        size = 0
        try:
            async with (
                httpx.AsyncClient(follow_redirects=True, timeout=_TIMEOUT_S) as client,
                client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
            ):
                if answer.status_code != 200:
                    raise OperationError(f"{url} answers {answer.status_code} {answer.reason_phrase}".rstrip())
                modified = answer.headers.get("Last-Modified", "")
                async with await trio.open_file(path, "wb") as file:
                    async for chunk in answer.aiter_raw(_CHUNK):
                        size += len(chunk)
                        if size > most_bytes:
                            raise OperationError(f"{url} is larger than {most_bytes} bytes")
                        hashed.update(chunk)
                        await file.write(chunk)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise OperationError(f"cannot fetch {url}: {str(exc) or type(exc).__name__}") from exc
        except OSError as exc:
            raise HostError(f"cannot write {path}: {exc.strerror}") from exc
        if checksum and checksum != f"sha256:{hashed.hexdigest()}":
            raise OperationError(f"{url} has the checksum sha256:{hashed.hexdigest()}, not {checksum}")
        name = unquote(urlsplit(url).path).rpartition("/")[2]
        return Text(name.replace("/", "_"), path=path, mode=0o600, mtime_ns=_time_ns(modified))

    async def git(self, source: GitSource, checksum: str = "", *, keep_git_dir: bool = False) -> str:
        """The directory with what `source` means. `checksum`: the commit that it must be. Raises OperationError."""
        top = self._path("git")
        await self._git("init", "--quiet", top)
        await self._git("-C", top, "remote", "add", "origin", source.url)
        ref = source.ref or "HEAD"
        try:
            await self._git("-C", top, "fetch", "--quiet", "--depth=1", "--no-tags", "origin", ref)
        except OperationError:  # Not every server gives single commits, and not every one is shallow.
            await self._git("-C", top, "fetch", "--quiet", "--tags", "origin")
            await self._git("-C", top, "fetch", "--quiet", "origin", ref)
        await self._git("-C", top, "checkout", "--quiet", "--force", "FETCH_HEAD")
        await self._git("-C", top, "submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
        if checksum:
            commit = (await self._git("-C", top, "rev-parse", "HEAD")).strip()
            if not commit.startswith(checksum.rpartition(":")[2]):
                raise OperationError(f"{source.url} is at commit {commit}, not {checksum}")
        if not keep_git_dir:
            await trio.to_thread.run_sync(remove_tree, os.path.join(top, ".git"))
        return await trio.to_thread.run_sync(_inside, top, source)

    async def archive(self, url: str) -> str:
        """The directory with what the tar archive at `url` holds. Raises OperationError."""
        text = await self.url(url)
        directory = self._path("archive")
        os.mkdir(directory, 0o755)

        def unpack() -> None:
            with Copier(directory, (), Placing("/")) as copier:
                if not copier.unpack(text):
                    hint = "a context is a directory, a Git repository or a tar archive"
                    raise OperationError(f"{url} is no tar archive", hint=hint)
                copier.finish()

        await trio.to_thread.run_sync(unpack)
        return directory

    async def _git(self, *arguments: str) -> str:
        settings = [word for setting in _GIT_SETTINGS for word in ("-c", setting)]
        try:
            result = await trio.run_process(
                ["git", *settings, *arguments],
                capture_stdout=True, capture_stderr=True, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError as exc:
            raise HostError("there is no git on this machine", hint="apt-get install git") from exc
        if result.returncode != 0:
            said = result.stderr.decode("utf-8", "replace").strip().splitlines()
            raise OperationError(f"git {arguments[-1]}: {said[-1] if said else f'exit code {result.returncode}'}")
        return result.stdout.decode("utf-8", "replace")


@asynccontextmanager
async def fetched(store: Store) -> AsyncIterator[Fetched]:
    """While the block runs, what is fetched is there."""
    place = await trio.to_thread.run_sync(store.tmp)
    try:
        yield Fetched(place)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.discard, place)


def _inside(top: str, source: GitSource) -> str:
    """The directory of a repository, which may not be a link to somewhere else."""
    directory = os.path.join(top, source.directory)
    if not os.path.isdir(directory) or os.path.realpath(directory) != os.path.normpath(directory):
        raise OperationError(f'"{source.directory}" is no directory of {source.url}')
    return directory


def _time_ns(modified: str) -> int:
    """``Last-Modified`` (RFC 9110); 0 if it is not said."""
    found = email.utils.parsedate(modified)
    return calendar.timegm(found) * 10**9 if found is not None else 0
