"""What comes from elsewhere: ADD of a URL or of a Git repository, and contexts that are one. Into directories of the
store's ``tmp/``, which are deleted when the step, or the build, is over.
"""

from __future__ import annotations

import calendar
import contextlib
import email.utils
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, unquote, urlsplit

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
    "core.fsmonitor=false",
    "core.sshCommand=ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=15",
    "init.templateDir=",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "maintenance.auto=false",
    "gc.auto=0",
)
_GIT_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "git:http:https:ssh",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS_REQUIRE": "never",
}
"""With `_GIT_SETTINGS`: nobody is asked anything, a Dockerfile is no reason to read this machine or to run something on it
(submodules have addresses of their own), who stalls is left, and no process of git's goes on in the background."""
_GIT_FORGOTTEN = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "GIT_OBJECT_DIRECTORY",
    "GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_GRAFT_FILE", "GIT_INDEX_FILE", "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE", "GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_CEILING_DIRECTORIES",
    "GIT_TEMPLATE_DIR",
)  # fmt: skip
"""They are about some repository of the caller's (git rev-parse --local-env-vars)."""
_GIT_S = 900.0
_QUERY = ("branch", "tag", "ref", "subdir", "checksum", "commit", "submodules")


@frozen
class GitSource:
    """`ref`: a branch, a tag or a commit; "": the default branch. `directory`: below the repository's root. `checksum`: the
    commit that it must be."""

    url: str
    ref: str = ""
    directory: str = ""
    checksum: str = ""
    submodules: bool = True

    @property
    def shown(self) -> str:
        """Without a password."""
        scheme, separator, rest = self.url.partition("://")
        user, at, host = rest.partition("/")[0].rpartition("@")
        return f"{scheme}://{user.partition(':')[0]}{at}{rest[len(user) + len(at):]}" if separator and host else self.url


def is_remote(text: str) -> bool:
    return text.startswith(("http://", "https://", *_GIT_SCHEMES))


def git_source(text: str) -> GitSource | None:
    """None for what is no Git repository's address: one that ends in ``.git``, or begins as only Git's do.
    ``#REF:DIRECTORY`` may follow, or a query (https://docs.docker.com/build/concepts/context/#git-repositories). Raises
    InputError."""
    whole, _, fragment = text.partition("#")
    url, _, query = whole.partition("?")
    if not url.startswith(_GIT_SCHEMES) and not (is_remote(url) and url.endswith(".git")):
        return None
    ref, _, directory = fragment.partition(":")
    asked = _asked(text, query)
    branch, tag = asked.get("branch"), asked.get("tag")
    ref = asked.get("ref") or (f"refs/heads/{branch}" if branch else f"refs/tags/{tag}" if tag else ref)
    directory = asked.get("subdir") or directory
    if ref.startswith(("-", "+", "^")) or ":" in ref or any(part == ".." for part in directory.split("/")):
        raise InputError(f'"{text}" is no address of a Git repository', hint="write URL#REF:DIRECTORY")
    checksum = asked.get("checksum") or asked.get("commit") or ""
    submodules = asked.get("submodules", "true").lower() not in ("false", "0")
    return GitSource(url, ref or checksum, directory.strip("/"), checksum, submodules)


def _asked(text: str, query: str) -> dict[str, str]:
    found = dict(parse_qsl(query, keep_blank_values=True))
    unknown = [name for name in found if name not in _QUERY]
    if unknown:
        hint = f"a Git repository's address may have {', '.join(_QUERY)}"
        raise InputError(f'"{text}" asks for "{unknown[0]}"', hint=hint)
    return found


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
        await self._git(source, "init", "--quiet", top)
        await self._git(source, "-C", top, "remote", "add", "--", "origin", source.url)
        ref = source.ref or "HEAD"
        try:
            await self._git(source, "-C", top, "fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", ref)
        except OperationError:  # Not every server gives single commits, and not every one is shallow.
            await self._git(source, "-C", top, "fetch", "--quiet", "--tags", "--", "origin")
            await self._git(source, "-C", top, "fetch", "--quiet", "--", "origin", ref)
        await self._git(source, "-C", top, "checkout", "--quiet", "--force", "FETCH_HEAD")
        if source.submodules:
            await self._git(source, "-C", top, "submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
        commit = (await self._git(source, "-C", top, "rev-parse", "HEAD")).strip()
        for wanted in (checksum, source.checksum):
            if not commit.startswith(wanted.rpartition(":")[2]):
                raise OperationError(f"{source.shown} is at commit {commit}, not {wanted}")
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

    async def _git(self, source: GitSource, *arguments: str) -> str:
        if await trio.to_thread.run_sync(shutil.which, "git") is None:
            raise HostError("there is no git on this machine", hint="apt-get install git")
        environment = [word for name in _GIT_FORGOTTEN for word in ("-u", name)]
        environment += [f"{name}={value}" for name, value in _GIT_ENVIRONMENT.items()]
        settings = [word for setting in _GIT_SETTINGS for word in ("-c", setting)]
        what = f"git {next(word for word in arguments if not word.startswith(('-', '/')))} of {source.shown}"
        try:
            with trio.fail_after(_GIT_S):
                result = await trio.run_process(
                    ["env", *environment, "git", *settings, *arguments], stdin=subprocess.DEVNULL, capture_stdout=True,
                    capture_stderr=True, check=False, start_new_session=True, deliver_cancel=_end_all,
                )  # fmt: skip
        except trio.TooSlowError as exc:
            raise OperationError(f"{what} took longer than {_GIT_S:.0f} s") from exc
        if result.returncode != 0:
            said = result.stderr.decode("utf-8", "replace").strip().splitlines()
            raise OperationError(f"{what}: {said[-1] if said else f'exit code {result.returncode}'}")
        return result.stdout.decode("utf-8", "replace")


async def _end_all(process: trio.Process) -> None:
    """Git's helpers too: they are in a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


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
        raise OperationError(f'"{source.directory}" is no directory of {source.shown}')
    return directory


def _time_ns(modified: str) -> int:
    """``Last-Modified`` (RFC 9110); 0 if it is not said."""
    found = email.utils.parsedate(modified)
    return calendar.timegm(found) * 10**9 if found is not None else 0
