"""User names and passwords where Docker, Podman and skopeo keep them, read and written as they do.

Looked for in: ``$REGISTRY_AUTH_FILE``; Docker's ``config.json`` (``$DOCKER_CONFIG`` or ``~/.docker``);
containers-auth.json(5) below ``$XDG_RUNTIME_DIR`` and ``$XDG_CONFIG_HOME``. A file's ``credHelpers`` and ``credsStore``
come before its ``auths``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.errors import InputError, OperationError
from orchestrator.images.registry.settings import HUB
from orchestrator.kernel.atomic import replace_file
from orchestrator.values import field, frozen

HUB_KEY = "https://index.docker.io/v1/"
"""Docker Hub's, of old."""
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
IDENTITY_USER = "<token>"
"""In place of a user name: the secret is an identity token (docker-credential-helpers)."""
NOT_THERE = "credentials not found in native keychain"
"""What a credential program writes, with status 1, when it has nothing (docker-credential-helpers)."""
MOST_BYTES = 1 << 20
PROGRAM_LIMIT_S = 30.0


@frozen
class Credential:
    """User and password, or a refresh token that an earlier login got."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class Credentials:
    """Of one user. Every method blocks: files, and programs that may ask the user's keyring."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)

    def find(self, registry: str, repository: str = "") -> Credential | None:
        """For a registry (``docker.io``, ``HOST:PORT``). Raises InputError for a file that cannot be understood, and
        OperationError for a credential program that fails."""
        for path in self._files():
            document = _read(path)
            program = _program_of(document, registry)
            if program and (found := self._asked(program, registry)) is not None:
                return found
            if (found := _listed(document, registry, repository, path)) is not None:
                return found
        return None

    def store(self, registry: str, credential: Credential) -> str:
        """Keep it as Docker does. Returns a warning, or "" if a program took it."""
        path = self._own_file()
        with _changing(path) as document:
            if program := _program_of(document, registry):
                secret = credential.identity_token or credential.password
                user = IDENTITY_USER if credential.identity_token else credential.user
                given = {"ServerURL": _key(registry), "Username": user, "Secret": secret}
                _run(program, "store", json.dumps(given), self._environ)
                return ""
            entry = {"identitytoken": credential.identity_token} if credential.identity_token else {}
            pair = f"{credential.user}:{credential.password if not credential.identity_token else ''}"
            auths = document.setdefault("auths", {})
            for key in [key for key in auths if key in _keys(registry)]:
                del auths[key]
            auths[_key(registry)] = {"auth": base64.b64encode(pair.encode()).decode(), **entry}
        return f"the password is stored in plain text in {path}: a credential program (`credsStore`) would keep it safe"

    def erase(self, registry: str) -> bool:
        """Forget it in the file that `store` writes, and in its program. Whether there was any."""
        path = self._own_file()
        if not os.path.exists(path):
            return False
        with _changing(path) as document:
            there = False
            if program := _program_of(document, registry):
                there = self._asked(program, registry) is not None
                if there:
                    _run(program, "erase", _key(registry), self._environ)
            auths = document.get("auths", {})
            for key in [key for key in auths if key in _keys(registry)]:
                del auths[key]
                there = True
            return there

    def _files(self) -> Iterator[str]:
        environ = self._environ
        if environ.get("REGISTRY_AUTH_FILE"):
            yield environ["REGISTRY_AUTH_FILE"]
        if path := self._docker_file():
            yield path
        config = environ.get("XDG_CONFIG_HOME") or (os.path.join(environ["HOME"], ".config") if environ.get("HOME") else "")
        for base in (environ.get("XDG_RUNTIME_DIR"), config):
            if base:
                yield os.path.join(base, "containers", "auth.json")

    def _docker_file(self) -> str:
        if self._environ.get("DOCKER_CONFIG"):
            return os.path.join(self._environ["DOCKER_CONFIG"], "config.json")
        return os.path.join(self._environ["HOME"], ".docker", "config.json") if self._environ.get("HOME") else ""

    def _own_file(self) -> str:
        path = self._environ.get("REGISTRY_AUTH_FILE") or self._docker_file()
        if not path:
            raise InputError("there is no place for credentials: HOME is not set", hint="set DOCKER_CONFIG to a directory")
        return os.path.realpath(path)

    def _asked(self, program: str, registry: str) -> Credential | None:
        answer = _run(program, "get", _key(registry), self._environ)
        if answer is None:
            return None
        try:
            given = json.loads(answer)
            user, secret = str(given["Username"]), str(given["Secret"])
        except (ValueError, KeyError, TypeError) as exc:
            raise OperationError(f"docker-credential-{program} gave no credentials but something else") from exc
        return Credential(identity_token=secret) if user == IDENTITY_USER else Credential(user, secret)


def _keys(registry: str) -> frozenset[str]:
    """All keys that a registry's credentials are kept under."""
    names = _HUB_NAMES if registry in _HUB_NAMES else {registry}
    return frozenset(f"{scheme}{name}{path}" for scheme in ("", "https://", "http://") for name in names for path in _PATHS)


_PATHS = ("", "/", "/v1", "/v1/", "/v2", "/v2/")


def _key(registry: str) -> str:
    return HUB_KEY if registry in _HUB_NAMES else registry


def _listed(document: Mapping[str, Any], registry: str, repository: str, path: str) -> Credential | None:
    """From ``auths``: what names the most of the repository comes first (containers-auth.json(5))."""
    auths = document.get("auths", {})
    names = [HUB] if registry in _HUB_NAMES else [registry]
    steps = repository.split("/") if repository else []
    nearest = [f"{name}/{'/'.join(steps[:count])}" for name in names for count in range(len(steps), 0, -1)]
    for key in [*nearest, *sorted(_keys(registry), key=lambda key: (key != _key(registry), key))]:
        if isinstance(entry := auths.get(key), dict) and (found := _credential(entry, key, path)) is not None:
            return found
    return None


def _credential(entry: Mapping[str, Any], key: str, path: str) -> Credential | None:
    user, password, token = (str(entry.get(name) or "") for name in ("username", "password", "identitytoken"))
    if entry.get("auth"):
        try:
            user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as exc:
            raise InputError(f"auths.{key}.auth is not base64 of USER:PASSWORD", place=path) from exc
        if not colon:
            raise InputError(f"auths.{key}.auth is not base64 of USER:PASSWORD", place=path)
        password = password.rstrip("\0")
    return Credential(user, password, token) if token or user else None


def _program_of(document: Mapping[str, Any], registry: str) -> str:
    helpers = document.get("credHelpers", {})
    return next((helpers[key] for key in sorted(_keys(registry)) if helpers.get(key)), document.get("credsStore") or "")


def _read(path: str) -> dict[str, Any]:
    """A file's document, {} if there is none. Keys that are used have the type that they should have."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as exc:
        raise InputError(f"cannot be read: {exc.strerror}", place=path, hint="it keeps credentials of registries") from exc
    try:
        document = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError) as exc:
        raise InputError(f"is not JSON: {exc}", place=path, hint="repair or remove it, then log in again") from exc
    found = document if isinstance(document, dict) else {"auths": None}
    if not all(isinstance(found.get(key, kind()), kind) for key, kind in _TYPES.items()):
        raise InputError("is not what Docker keeps there", place=path, hint="repair or remove it, then log in again")
    return found


_TYPES: Mapping[str, type] = {"auths": dict, "credHelpers": dict, "credsStore": str}


@contextlib.contextmanager
def _changing(path: str) -> Iterator[dict[str, Any]]:
    """The document, to be changed; written when it was. One process at a time; it is ours alone to read, whole or old."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = _read(path)
        before = json.dumps(document)
        yield document
        if json.dumps(document) != before:
            replace_file(path, json.dumps(document, indent="\t", ensure_ascii=False).encode() + b"\n")
    except OSError as exc:
        raise OperationError(f"credentials cannot be stored in {path}: {exc.strerror}") from exc
    finally:
        os.close(lock)


def _run(program: str, verb: str, given: str, environ: Mapping[str, str]) -> str | None:
    """``docker-credential-PROGRAM VERB``; None if it has nothing. Raises OperationError."""
    name = f"docker-credential-{program}"
    if not isinstance(program, str) or "/" in program or "\0" in program:
        raise InputError(f"{program!r} is no name of a credential program", hint="see credsStore and credHelpers")
    try:
        done = subprocess.run(
            [name, verb], input=given.encode(), capture_output=True, env=environ, timeout=PROGRAM_LIMIT_S, check=False
        )
    except FileNotFoundError as exc:
        raise OperationError(f"{name} is not there", hint="install it, or remove it from Docker's config.json") from exc
    except subprocess.TimeoutExpired as exc:
        told = f"{name} {verb} did not end within {PROGRAM_LIMIT_S:g} s"
        raise OperationError(told, hint="does it wait for somebody?") from exc
    except OSError as exc:
        raise OperationError(f"{name} cannot be run: {exc.strerror}") from exc
    output = done.stdout[:MOST_BYTES].decode(errors="replace")
    if done.returncode == 0:
        return output
    if output.strip() == NOT_THERE:
        return None
    told = (output.strip() or done.stderr[:MOST_BYTES].decode(errors="replace").strip())[:300]
    raise OperationError(f"{name} {verb} failed with status {done.returncode}: {told}", hint="run it by hand to see why")
