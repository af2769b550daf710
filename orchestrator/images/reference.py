"""What ``image:`` names: ``host``, ``rootfs:DIR``, an archive (containers-transports(5)), an id, or a name of a registry.

The grammar of names is Docker's (distribution/reference): ``[DOMAIN[:PORT]/]PATH[:TAG][@DIGEST]``, in short forms that are
written out here: ``redis`` is ``docker.io/library/redis:latest``. What looks like a transport is one: an image ``oci:x`` of
Docker's registry is written ``docker.io/library/oci:x``, and `Named.familiar` gives it like that.
"""

from __future__ import annotations

from orchestrator.errors import InputError
from orchestrator.images.spec.digest import Digest, digest
from orchestrator.values import frozen

DOCKER = "docker.io"
_LEGACY_DOCKER = "index.docker.io"
_OFFICIAL = "library/"
MOST_NAME = 255
"""Characters of a repository's path."""
MOST_TAG = 128
MOST_DOMAIN = 255 + len(":65535")
MOST_PATH = 4096
"""Bytes of a file's path (PATH_MAX)."""

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_HEX = frozenset("0123456789abcdef")
_ALPHANUMERIC = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALPHANUMERIC | {"_"}
_TAG = _WORD | frozenset(".-")
_ARCHIVE_NAME = _TAG | frozenset("/:@+")

TRANSPORTS = ("oci", "oci-archive", "docker-archive", "dir")
_OTHER_TRANSPORTS = ("containers-storage", "docker-daemon")
_NAME_HINT = "write [REGISTRY[:PORT]/]NAME[:TAG], such as redis:7 or localhost:5000/team/app:1.0"


@frozen
class HostReference:
    """The machine's own system, allow-listed."""


@frozen
class RootfsReference:
    """A directory that holds a root file system, as written: absolute, or relative to the project."""

    directory: str


@frozen
class IdReference:
    """An image of the store by its id, the digest of its configuration (``sha256:HEX``)."""

    digest: Digest


@frozen
class Archive:
    """An image in a file or directory. `transport`: one of `TRANSPORTS`. `path`: as written, absolute or relative to the
    project. `name`: which image in it, "" for the only one: a name (``org.opencontainers.image.ref.name``, or a Docker
    reference), or ``@N``, the N-th from 0."""

    transport: str
    path: str
    name: str = ""

    @property
    def full(self) -> str:
        return f"{self.transport}:{self.path}:{self.name}" if self.name else f"{self.transport}:{self.path}"


@frozen
class Named:
    """An image of a registry, normalised: `tag` is "" only where there is a digest. `repository` is the path in the
    registry's URLs (``library/redis``)."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Without tag and digest: ``docker.io/library/redis``."""
        return f"{self.registry}/{self.repository}"

    @property
    def full(self) -> str:
        """``docker.io/library/redis:7@sha256:HEX``; `parse_reference` gives the same value back."""
        scheme = "docker://" if self.registry.partition(":")[0] in _SCHEMES else ""
        return scheme + self.name + self._suffix

    @property
    def familiar_name(self) -> str:
        """As people write the name: ``redis``, ``team/app``, ``localhost:5000/app``."""
        short = self.repository.removeprefix(_OFFICIAL)
        short = self.repository if "/" in short else short
        plain = self.registry == DOCKER and short not in _RESERVED and _split_domain(short) == (DOCKER, short)
        return short if plain else self.name

    @property
    def familiar(self) -> str:
        """As people write it: ``redis:7``; `parse_reference` gives the same value back."""
        return self.familiar_name + self._suffix if self.registry == DOCKER else self.full

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest is not None else "")


Reference = HostReference | RootfsReference | IdReference | Archive | Named

_SCHEMES = frozenset(("rootfs", *TRANSPORTS, *_OTHER_TRANSPORTS))
_RESERVED = _SCHEMES | {"host", "sha256"}
"""Short names that mean something else here, or do with a tag."""


def parse_reference(text: str) -> Reference:
    """Raises InputError for a reference that is malformed."""
    if text == "host":
        return HostReference()
    if not text:
        raise InputError("the image has no name", hint="use `image: host`, `image: rootfs:DIR` or `image: redis:7`")
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "rootfs":
        if not rest or "\0" in rest:
            raise InputError('image "rootfs:" names no directory', hint="write image: rootfs:DIR")
        return RootfsReference(rest)
    if colon and scheme in TRANSPORTS:
        return _archive(scheme, rest)
    if colon and scheme in _OTHER_TRANSPORTS:
        raise InputError(
            f'the transport "{scheme}:" of "{_shown(text)}" is not supported',
            hint=f"use one of docker://, {', '.join(f'{name}:' for name in TRANSPORTS)}",
        )
    if _is_id(text):
        return IdReference(Digest(text if colon else f"sha256:{text}"))
    return parse_named(text)


def parse_named(text: str) -> Named:
    """A name of a registry's, also where other kinds of references have no place (``build.tags``, ``pystack push``). Raises
    InputError."""
    scheme, colon, _ = text.partition(":")
    if text == "host" or (colon and scheme in _SCHEMES) or _is_id(text):
        raise InputError(f'"{_shown(text)}" is not a name that an image could have', hint=_NAME_HINT)
    if colon and scheme in ("http", "https"):
        raise InputError(f'"{_shown(text)}" is a URL and not a name of an image', hint="leave out " + scheme + "://")
    text = text.removeprefix("docker://")
    rest, at, of = text.partition("@")
    try:
        found = digest(of) if at else None
    except ValueError as exc:
        raise InputError(f'image "{_shown(text)}": {exc}') from exc
    registry, path = _split_domain(rest)
    repository, colon, tag = path.partition(":")
    if registry == DOCKER and "/" not in repository:
        repository = _OFFICIAL + repository
    _check_repository(repository, text)
    if registry != DOCKER:
        _check_domain(registry, text)
    if colon and (len(tag) > MOST_TAG or not tag or tag[0] not in _WORD or not _TAG.issuperset(tag)):
        raise InputError(
            f'"{_shown(tag)}" is not a tag, in image "{_shown(text)}"',
            hint=f"a tag has at most {MOST_TAG} letters, digits, _ . and -, and starts with none of . and -",
        )
    if not tag and found is None:
        tag = "latest"
    return Named(registry, repository, tag, found)


def _archive(transport: str, rest: str) -> Archive:
    path, _, name = (rest, "", "") if transport == "dir" else rest.partition(":")
    whole = f"{transport}:{rest}"
    if not path or "\0" in path or len(path) > MOST_PATH:
        raise InputError(f'image "{_shown(whole)}" names no file or directory', hint=f"write {transport}:PATH")
    if rest != path and not name:
        raise InputError(f'image "{_shown(whole)}" names nothing after the last colon', hint=f"write {transport}:{path}")
    if name.startswith("@"):
        if not (name[1:].isascii() and name[1:].isdecimal() and len(name) <= 5):
            raise InputError(f'"{_shown(name)}" is not a number of an image, in "{_shown(whole)}"', hint="write @0, @1 ...")
        return Archive(transport, path, f"@{int(name[1:])}")
    if name and transport == "docker-archive":
        return Archive(transport, path, parse_named(name).full)
    if len(name) > MOST_NAME or not _ARCHIVE_NAME.issuperset(name):
        raise InputError(f'"{_shown(name)}" is not a name of an image, in "{_shown(whole)}"')
    return Archive(transport, path, name)


def _is_id(text: str) -> bool:
    rest = text.removeprefix("sha256:")
    return len(rest) == 64 and _HEX.issuperset(rest)


def _split_domain(text: str) -> tuple[str, str]:
    """The registry and the rest. The first component is a registry if it cannot be a part of a path: it has a dot, a colon
    or a capital letter, or is ``localhost``."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DOCKER, text
    if first == _LEGACY_DOCKER:
        return DOCKER, rest
    if first == "localhost" or "." in first or ":" in first or first.lower() != first:
        return first, rest
    return DOCKER, text


def _check_repository(path: str, text: str) -> None:
    if path.lower() != path:
        raise InputError(
            f'image "{_shown(text)}" has capital letters in its name', hint=f'did you mean "{_shown(text.lower())}"?'
        )
    if len(path) > MOST_NAME:
        raise InputError(f'the name of image "{_shown(text)}" has {len(path)} characters, more than {MOST_NAME}')
    if not all(_is_path_component(part) for part in path.split("/")):
        raise InputError(f'"{_shown(text)}" is not a name of an image', hint=_NAME_HINT)


def _is_path_component(part: str) -> bool:
    """``[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*``"""
    if not part or part[0] not in _LOWER or part[-1] not in _LOWER:
        return False
    separator = ""
    for character in part:
        if character in _LOWER:
            if separator.strip("-") and separator not in (".", "_", "__"):
                return False
            separator = ""
        elif character in "._-":
            separator += character
        else:
            return False
    return True


def _check_domain(domain: str, text: str) -> None:
    host, port = domain, ""
    if domain.startswith("["):
        host, bracket, rest = domain[1:].partition("]")
        good = bool(bracket) and 2 <= len(host) <= 45 and ":" in host and (_HEX | set("ABCDEF:")).issuperset(host)
        good = good and (not rest or rest.startswith(":"))
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = domain.partition(":")
        good = all(
            part and _ALPHANUMERIC.issuperset(part.replace("-", "")) and part[0] != "-" and part[-1] != "-"
            for part in host.split(".")
        )
    if colon:
        good = good and port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535
    if not good or len(domain) > MOST_DOMAIN:
        raise InputError(f'"{_shown(domain)}" is not a registry, in image "{_shown(text)}"', hint=_NAME_HINT)


def _shown(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."
