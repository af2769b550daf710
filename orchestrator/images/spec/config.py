"""Image configurations (image-spec, config.md, and Docker's of the same shape): read without trust, made as canonical JSON.

Docker writes null for what is not set (``"Cmd": null``), and wrote texts for lists once: both are read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.contracts.images import ImageConfig
from orchestrator.errors import InputError, OperationError
from orchestrator.images.spec.descriptor import Fields, read_platform, written_platform
from orchestrator.images.spec.digest import Digest, digest, digest_of
from orchestrator.images.spec.platform import Platform
from orchestrator.images.spec.strict_json import canonical, read_object
from orchestrator.model.health import HealthCheck
from orchestrator.units import NS_PER_SECOND, parse_signal, signal_name
from orchestrator.values import field, frozen

MOST_LAYERS = 1024
MIN_PROBE_NS = 1_000_000
_SHELL = ("/bin/sh", "-c")
_KEYS = ("architecture", "os", "variant", "os.version", "config", "rootfs", "history", "created", "author")


@frozen
class History:
    """How one layer came about, or (`empty_layer`) a change of the configuration alone. `created`: RFC 3339 text."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@frozen
class ConfigFile:
    """`digest` is the image's id. `diff_ids` lowest first. `config`: what a container takes over, as it stands in the file;
    `container_config` reads it."""

    raw: bytes = field(repr=False)
    digest: Digest
    platform: Platform
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    author: str = ""


def parse_config(raw: bytes) -> ConfigFile:
    """Raises OperationError for what is malformed, also in `config`."""
    found = read_object(raw, "image configuration", _KEYS)
    fields = Fields(found, "the image configuration")
    rootfs = Fields(fields.get("rootfs", dict, {}), "rootfs of the image configuration")
    if rootfs.text("type") not in ("", "layers"):
        raise OperationError(f'rootfs of the image configuration is of type "{rootfs.text("type")[:80]}", not layers')
    try:
        diff_ids = tuple(digest(item) for item in rootfs.texts("diff_ids"))
    except ValueError as exc:
        raise OperationError(f"diff_ids of the image configuration: {exc}") from exc
    if len(diff_ids) > MOST_LAYERS:
        raise OperationError(f"the image has {len(diff_ids)} layers, more than {MOST_LAYERS}")
    made = ConfigFile(
        raw,
        digest_of(raw),
        read_platform({"os": "linux", **{key: item for key, item in found.items() if item}}, "the image configuration"),
        diff_ids,
        tuple(_history(item) for item in fields.get("history", list, [])),
        fields.get("config", dict, {}),
        fields.text("created"),
        fields.text("author"),
    )
    container_config(made)
    return made


def make_config(
    platform: Platform,
    config: Mapping[str, Any],
    diff_ids: Sequence[Digest],
    history: Sequence[History] = (),
    *,
    created: str = "",
    author: str = "",
) -> bytes:
    """A configuration file; its digest is the image's id. `config`: as `ConfigFile.config`; what is None is left out."""
    out: dict[str, Any] = {
        **written_platform(platform),
        "config": {key: value for key, value in config.items() if value is not None},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    if history:
        out["history"] = [_written_history(item) for item in history]
    out |= {key: value for key, value in (("created", created), ("author", author)) if value}
    return canonical(out)


def container_config(config: ConfigFile) -> ImageConfig:
    """What a container takes over, with Docker's defaults. Raises OperationError for a wrong type, or what is no signal."""
    fields = Fields(config.config, "config of the image")
    shell = _words(fields, "Shell")
    return ImageConfig(
        entrypoint=_words(fields, "Entrypoint"),
        command=_words(fields, "Cmd"),
        environment=_environment(fields.texts("Env")),
        working_dir=_rooted(fields.text("WorkingDir")),
        user=fields.text("User"),
        stop_signal=_stop_signal(fields.text("StopSignal")),
        healthcheck=_healthcheck(fields.get("Healthcheck", dict), shell),
        volumes=tuple(dict.fromkeys(_volume(text) for text in fields.get("Volumes", dict, {}))),
        exposed_ports=tuple(_port(text) for text in fields.get("ExposedPorts", dict, {})),
        labels=fields.pairs("Labels"),
        shell=shell,
        on_build=fields.texts("OnBuild"),
    )


def _history(found: object) -> History:
    fields = Fields(found, "an entry of the image's history")
    created, created_by, author, comment = (fields.text(key) for key in ("created", "created_by", "author", "comment"))
    return History(created, created_by, author, comment, fields.get("empty_layer", bool, False))


def _written_history(item: History) -> dict[str, Any]:
    texts = {"created": item.created, "created_by": item.created_by, "author": item.author, "comment": item.comment}
    return {
        **{key: value for key, value in texts.items() if value},
        **({"empty_layer": True} if item.empty_layer else {}),
    }


def _words(fields: Fields, key: str) -> tuple[str, ...]:
    found = fields.get(key, object)
    return (found,) if isinstance(found, str) else fields.texts(key)


def _environment(entries: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VALUE``; what has no ``=``, or no name, sets nothing."""
    pairs = (entry.partition("=") for entry in entries)
    found = {name: value for name, sign, value in pairs if sign and name}
    if any("\0" in name or "\0" in value for name, value in found.items()):
        raise OperationError("Env of config of the image holds a NUL byte")
    return found


def _stop_signal(text: str) -> str | None:
    if not text:
        return None
    try:
        return signal_name(parse_signal(text))
    except InputError as exc:
        raise OperationError(f'StopSignal of config of the image is "{text[:80]}", which is no signal') from exc


def _rooted(path: str) -> str:
    """`path` from the root, clean. A NUL byte is in no path."""
    if "\0" in path:
        raise OperationError("a path in config of the image holds a NUL byte")
    return posixpath.normpath("/" + path.lstrip("/"))


def _volume(text: str) -> str:
    path = _rooted(text)
    if path == "/":
        raise OperationError(f'Volumes of config of the image has "{text[:80]}", where no volume can be')
    return path


def _port(text: str) -> str:
    """``80/tcp``, also for ``80``; ``8000-8010/udp``."""
    ports, _, protocol = text.partition("/")
    numbers = ports.split("-")
    whole = all(part.isascii() and part.isdecimal() and len(part) <= 5 and int(part) <= 65535 for part in numbers)
    if not whole or len(numbers) > 2 or protocol.lower() not in ("", "tcp", "udp", "sctp"):
        raise OperationError(f'ExposedPorts of config of the image has "{text[:80]}", which is no port')
    return f"{ports}/{protocol.lower() or 'tcp'}"


def _healthcheck(found: object, shell: tuple[str, ...]) -> HealthCheck | None:
    """None: it says nothing. Of an unknown kind it is none either, as for Docker."""
    if found is None:
        return None
    fields = Fields(found, "Healthcheck of the image")
    test: tuple[str, ...] | None = None
    match fields.texts("Test"):
        case ():
            pass  # Numbers for a test of the stack's.
        case ("NONE", *_):
            return HealthCheck(disabled=True)
        case ("CMD", *words) if words:
            test = (*words,)
        case ("CMD-SHELL", *words) if words:
            test = (*(shell or _SHELL), " ".join(words))
        case _:
            return None
    return HealthCheck(
        test=test,
        interval_s=_seconds(fields, "Interval"),
        timeout_s=_seconds(fields, "Timeout"),
        retries=fields.natural("Retries"),
        start_period_s=_seconds(fields, "StartPeriod"),
        start_interval_s=_seconds(fields, "StartInterval"),
    )


def _seconds(fields: Fields, key: str) -> float:
    """0 stands for the default; what is shorter than moby takes is refused, as it would be one probe after another."""
    found = fields.natural(key)
    if 0 < found < MIN_PROBE_NS:
        raise OperationError(f"{key} of {fields.what} is {found} ns, less than 1 ms")
    return found / NS_PER_SECOND
