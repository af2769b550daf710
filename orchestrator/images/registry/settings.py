"""registries.toml: mirrors, registries without TLS or with a CA of their own, and limits.

    [limits]
    downloads = 3                  # layers at a time

    [registry."docker.io"]
    mirrors = ["https://mirror.example.org/hub", "127.0.0.1:5000"]

    [registry."registry.lan:5000"]
    insecure = true                # plain HTTP, or TLS that nobody verifies
    ca = "/etc/ssl/lan.crt"

Read from `/etc/pystack` (or ``$PYSTACK_CONFIG_DIR``) and then from ``~/.config/pystack``: of two, the user's value counts.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import InputError
from orchestrator.values import field, fields, frozen, replace

SYSTEM_DIRECTORY = "/etc/pystack"
FILE = "registries.toml"
MOST_BYTES = 256 * 1024
CERTIFICATES = ("/etc/docker/certs.d", "/etc/containers/certs.d")
"""Where ``HOST[:PORT]/*.crt`` are CAs for one registry (Docker's manual, "Verify repository client with certificates")."""
HUB = "docker.io"
HUB_HOST = "registry-1.docker.io"
"""What answers for Docker Hub."""


@frozen
class Bounds:
    """How much at a time, how often and how long. `silence_s`: no byte came; `answer_s`: an answer that is no blob, as a
    whole; `wait_s`: the longest a registry may make us wait before the next of `attempts`; `backoff_s`: the first wait."""

    downloads: int = 3
    uploads: int = 3
    attempts: int = 5
    connect_s: float = 15.0
    silence_s: float = 60.0
    answer_s: float = 60.0
    backoff_s: float = 0.5
    wait_s: float = 60.0


@frozen
class Endpoint:
    """Where requests go. `name`: as the user has it, and as credentials are kept by; `host` with its port; `scheme`: "" if
    HTTPS is tried first and then, if `plain`, HTTP; `prefix`: what comes before names of repositories, "" or ``hub/``."""

    name: str
    host: str
    scheme: str = ""
    prefix: str = ""
    plain: bool = False


@frozen
class RegistrySettings:
    """What registries.toml says of one registry."""

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    ca: str = ""


@frozen
class Settings:
    """Both files as one."""

    bounds: Bounds = Bounds()
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    certificates: tuple[str, ...] = CERTIFICATES

    def of(self, name: str) -> RegistrySettings:
        return self.registries.get(name, RegistrySettings())

    def endpoint(self, name: str) -> Endpoint:
        """The registry itself."""
        return self._endpoint(name, HUB_HOST if name == HUB else name)

    def endpoints(self, name: str) -> tuple[Endpoint, ...]:
        """Its mirrors in their order, and then itself."""
        return (*(self._mirror(mirror) for mirror in self.of(name).mirrors), self.endpoint(name))

    def _endpoint(self, name: str, host: str, scheme: str = "", prefix: str = "") -> Endpoint:
        plain = scheme == "http" or (not scheme and (self.of(name).insecure or is_loopback(host)))
        return Endpoint(name, host, scheme, prefix, plain)

    def _mirror(self, text: str) -> Endpoint:
        scheme, host, prefix = _split_mirror(text)
        return self._endpoint(host, host, scheme, prefix)

    def authorities(self, host: str, name: str) -> tuple[str, ...]:
        """Files with the CAs that `host` (with its port) is trusted by beside the machine's own."""
        found = [self.of(name).ca] if self.of(name).ca else []
        for base in self.certificates:
            directory = os.path.join(base, host)
            try:
                names = sorted(os.listdir(directory))
            except OSError:
                continue
            found += [os.path.join(directory, file) for file in names if file.endswith(".crt")]
        return tuple(found)


def is_loopback(host: str) -> bool:
    """``localhost``, 127.0.0.0/8 or ::1, with a port or without."""
    name = host_without_port(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_without_port(host: str) -> str:
    """``[::1]:5000`` -> ``::1``; ``localhost:5000`` -> ``localhost``."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Raises InputError, with file and line, for a file that cannot be read or holds what is no setting."""
    paths = [os.path.join(environ.get("PYSTACK_CONFIG_DIR") or SYSTEM_DIRECTORY, FILE)]
    home = environ.get("XDG_CONFIG_HOME") or (os.path.join(environ["HOME"], ".config") if environ.get("HOME") else "")
    if home:
        paths.append(os.path.join(home, "pystack", FILE))
    settings = Settings()
    for path in paths:
        settings = _with_file(settings, path)
    return settings


def _with_file(settings: Settings, path: str) -> Settings:
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
        text = raw.decode()
    except FileNotFoundError:
        return settings
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"cannot be read: {exc}", place=path, hint="registries.toml is a text file in UTF-8") from exc
    if len(raw) > MOST_BYTES:
        raise InputError(f"is larger than {MOST_BYTES} bytes", place=path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise InputError(f"is not TOML: {exc}", place=path, hint="docs/images.md shows the file") from exc
    return _Reader(path, text).read(document, settings)


class _Reader:
    """One file's content, checked. `fail` finds the line only when there is something to say."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    def read(self, document: Mapping[str, Any], settings: Settings) -> Settings:
        for key in document:
            if key not in ("limits", "registry"):
                self.fail([key], f'"{key}" is no setting', "the tables are [limits] and [registry.NAME]")
        bounds = self._table(["limits"], document.get("limits", {}), {item.name: _number for item in fields(Bounds)})
        registries = dict(settings.registries)
        named = document.get("registry", {})
        if not isinstance(named, dict):
            self.fail(["registry"], '"registry" is no table', 'write [registry."HOST:PORT"]')
        for name, table in named.items():
            if not is_registry(name):
                self.fail(["registry", name], f'"{name}" is no registry', 'write its host and port: [registry."HOST:PORT"]')
            values = self._table(["registry", name], table, _REGISTRY)
            registries[name] = replace(registries.get(name, RegistrySettings()), **values)
        return replace(settings, bounds=replace(settings.bounds, **bounds), registries=registries)

    def _table(self, path: list[str], table: Any, keys: Mapping[str, Callable[[str, Any], Any]]) -> dict[str, Any]:
        if not isinstance(table, dict):
            self.fail(path, f'"{path[-1]}" is no table', f"write [{path[0]}...]")
        values = {}
        for key, given in table.items():
            if key not in keys:
                self.fail([*path, key], f'"{key}" is no setting', f"there are: {', '.join(keys)}")
            try:
                values[key] = keys[key](key, given)
            except ValueError as exc:
                self.fail([*path, key], f"{key} = {given!r}: {exc}", "docs/images.md shows the file")
        return values

    def fail(self, path: list[str], sentence: str, hint: str) -> None:
        raise InputError(sentence, place=f"{self.path}:{self.line(path)}", hint=hint)

    def line(self, path: list[str]) -> int:
        """The first line with which the text so far has this key: tomllib tells nothing of places."""
        lines = self.text.splitlines(keepends=True)
        for number in range(1, len(lines) + 1):
            try:
                found: Any = tomllib.loads("".join(lines[:number]))
                for key in path:
                    found = found[key]
            except (tomllib.TOMLDecodeError, KeyError, TypeError):
                continue
            return number
        raise AssertionError(f"{path} is nowhere in {self.path}")


def _number(key: str, given: Any) -> float:
    whole = not key.endswith("_s")
    if isinstance(given, bool) or not isinstance(given, int if whole else int | float):
        raise ValueError("is no number" if not whole else "is no whole number")
    if not (1 if whole else 0.001) <= given <= (64 if whole else 86_400):
        raise ValueError("must be 1 to 64" if whole else "must be 0.001 to 86400 seconds")
    return given if whole else float(given)


def _flag(key: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise ValueError("is neither true nor false")
    return given


def _path(key: str, given: Any) -> str:
    if not isinstance(given, str) or not os.path.isabs(given):
        raise ValueError("is no absolute path")
    return given


def _mirrors(key: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise ValueError("is no list of texts")
    for each in given:
        _split_mirror(each)
    return tuple(given)


_REGISTRY: Mapping[str, Callable[[str, Any], Any]] = {"mirrors": _mirrors, "insecure": _flag, "ca": _path}


def _split_mirror(text: str) -> tuple[str, str, str]:
    """``[http[s]://]HOST[:PORT][/PREFIX]`` as (scheme, host, prefix)."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "", text
    host, _, prefix = rest.partition("/")
    prefix = prefix.rstrip("/")
    wrong = any(not character.isalnum() and character not in "/._-" for character in prefix)
    if wrong or scheme not in ("", "http", "https") or not is_registry(host):
        raise ValueError(f"{text!r} is no [http[s]://]HOST[:PORT][/PREFIX]")
    return scheme, host, f"{prefix}/" if prefix else ""


def is_registry(text: str) -> bool:
    """Whether it is ``HOST[:PORT]``."""
    name = host_without_port(text)
    bracketed = text.startswith("[")
    port = text[len(name) + 2 * bracketed :]
    if bracketed and text != f"[{name}]{port}":
        return False
    if bracketed:
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            return False
    elif not name or not all(part and part.isascii() and part.replace("-", "a").isalnum() for part in name.split(".")):
        return False
    return not port or (port.startswith(":") and port[1:].isdecimal() and 0 < int(port[1:]) < 65536)
