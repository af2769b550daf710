"""Where things lie in the store, and what of it was found damaged."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote

from orchestrator.contracts.state import Finding
from orchestrator.errors import HostError, OperationError, access_hint
from orchestrator.images.spec.digest import Digest, digest
from orchestrator.kernel.atomic import keep_aside
from orchestrator.kernel.sealed import VERSION, Data, seal, unseal_file, version_of

_LONGEST = 200
"""Of a file's name; NAME_MAX is 255, and others put something before and after it."""
FORMAT_HINT = "use the pystack that wrote it, or a newer one"


class Places:
    """Paths below `root`. What is to become a file's name comes in as a digest, a key of ours, or is escaped."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._findings: dict[tuple[str, str], Finding] = {}

    def directory(self, name: str) -> str:
        return os.path.join(self.root, name)

    def blob(self, of: Digest) -> str:
        algorithm, _, rest = of.partition(":")
        return os.path.join(self.root, "blobs", algorithm, rest)

    def ingest(self, of: Digest) -> str:
        return os.path.join(self.root, "ingest", of.replace(":", "-"))

    def layer(self, key: str) -> str:
        return os.path.join(self.root, "layers", key)

    def record(self, of: Digest) -> str:
        return os.path.join(self.root, "records", f"{hex_of(of)}.json")

    def name(self, name: str) -> str:
        return os.path.join(self.root, "names", escaped(name))

    def cache(self, key: str) -> str:
        return os.path.join(self.root, "cache", f"{hashlib.sha256(key.encode()).hexdigest()}.json")

    def ensure(self, *names: str) -> None:
        """Make directories of the store that are not there yet, each private to its owner. Raises OSError."""
        for name in names:
            path = self.root
            os.makedirs(path, 0o700, exist_ok=True)
            for part in name.split("/"):
                path = os.path.join(path, part)
                with suppress(FileExistsError):
                    os.mkdir(path, 0o700)

    def list(self, name: str) -> list[str]:
        """The names in a directory of the store, sorted; none if it does not exist."""
        with refused(f"read {self.directory(name)}"):
            try:
                return sorted(os.listdir(self.directory(name)))
            except FileNotFoundError:
                return []

    def read(self, path: str) -> Data | None:
        """A sealed value; None if there is none, or a damaged one, which is told. Raises OperationError for a newer one."""
        with refused(f"read {path}"):
            try:
                found = unseal_file(path)
            except FileNotFoundError:
                return None
        try:
            if found is not None and version_of(found) > VERSION:
                raise OperationError(f"{path} was written by a newer pystack", hint=FORMAT_HINT)
        except ValueError:
            found = None
        if found is None:
            self.tell(path, "is damaged", "it counts as not there")
        return found

    def tell(self, path: str, what: str, done: str) -> None:
        self._findings[path, what] = Finding(path, what, done)

    def told(self) -> tuple[Finding, ...]:
        """What was told since this was last asked."""
        told = tuple(self._findings.values())
        self._findings.clear()
        return told

    def trash(self, path: str) -> None:
        """Take something out of sight at once; whoever collects deletes it. Raises OSError."""
        self.ensure("trash")
        with suppress(FileNotFoundError):
            os.rename(path, os.path.join(self.root, "trash", f"{os.urandom(8).hex()}-{os.path.basename(path)[:_LONGEST]}"))


def keep_damaged(path: str) -> None:
    """The file aside, for whoever wants to look. Raises OSError."""
    with suppress(FileNotFoundError):
        keep_aside(path)


def sealed(data: Data) -> bytes:
    """`data` as it is stored."""
    return seal({"version": VERSION} | data)


def escaped(name: str) -> str:
    """`name` as the name of a file: what is not a letter, a digit or one of ``_-~.`` in percent (and a full stop where it
    would mean something here); of a long one the beginning and a hash. Different names stay different."""
    text = quote(name, safe="", errors="surrogatepass").replace(".damaged-", "%2Edamaged-")
    if text.startswith("."):
        text = "%2E" + text[1:]
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 67]}%%-{hashlib.sha256(text.encode()).hexdigest()}"


def hex_of(of: Digest) -> str:
    """Its hexadecimal digits."""
    return of.partition(":")[2]


def digest_from(algorithm: str, rest: str) -> Digest | None:
    """The digest with these parts, None if there is none."""
    try:
        return digest(f"{algorithm}:{rest}")
    except ValueError:
        return None


@contextmanager
def refused(what: str) -> Iterator[None]:
    """What the machine refuses meanwhile is HostError: ``cannot WHAT: ...``. That nobody reads any more is no refusal."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "`pystack image prune` removes images that nothing needs"
            raise HostError(f"the disk is full: cannot {what}", hint=hint) from exc
        raise HostError(f"cannot {what}: {exc.strerror or exc}", hint=access_hint(exc)) from exc
