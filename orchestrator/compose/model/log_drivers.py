"""``logging``: what the log drivers of Docker mean here (docs/runtime.md, "Logs").

The drivers that send output elsewhere are not here. What a container writes is kept then as Docker keeps its own copy of
it, so that ``logs`` shows it, and a warning says that it is not sent.
"""

from __future__ import annotations

from orchestrator.compose.kinds.values import cast_bool, go_text
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.text.diagnostics import Diagnostic, nearest
from orchestrator.compose.text.tree import Node, diagnostic
from orchestrator.model.log_policy import Logging
from orchestrator.units import parse_bytes

JSON_FILE, LOCAL, NONE = "json-file", "local", "none"
_DEFAULTS = {JSON_FILE: Logging(), LOCAL: Logging(max_bytes=20 << 20, max_files=5), NONE: Logging(kept=False)}
_REMOTE = frozenset(
    ("awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "logentries", "loki", "splunk", "syslog")
)
_LOCAL_COPY = _DEFAULTS[LOCAL]
"""What Docker keeps of what is sent elsewhere."""
_EFFECTIVE = frozenset(("max-size", "max-file", "mode", "max-buffer-size"))
_WITHOUT_EFFECT = {
    "compress": "files that are full are not compressed",
    "labels": "nothing is added to what a container writes",
    "labels-regex": "nothing is added to what a container writes",
    "env": "nothing is added to what a container writes",
    "env-regex": "nothing is added to what a container writes",
    "tag": "nothing is added to what a container writes",
}
_MOST_FILES = 1000


def logging(read: Reader, node: Node, path: str) -> Logging:
    """What is to be kept of a service's output."""
    item = node.get("logging")
    if item is None or not isinstance(item.value, dict):
        return Logging()
    path, name = f"{path}.logging", _driver(item)
    driver = item.get("driver")
    if driver is not None and name not in _DEFAULTS and not _is_remote(name):
        hint = "json-file (the default), local or none"
        near = nearest(name, (*_DEFAULTS, *_REMOTE), read.found)
        read.error(driver, f"{path}.driver", f'there is no log driver "{name}"{near}', hint)
        return Logging()
    if name not in _DEFAULTS:
        return _LOCAL_COPY
    policy = _DEFAULTS[name]
    size, files = policy.max_bytes, policy.max_files
    for key, option in _options(item):
        place, text = f"{path}.options.{key}", go_text(option.value)
        if key not in _EFFECTIVE and key not in _WITHOUT_EFFECT:
            near = nearest(key, (*_EFFECTIVE, *_WITHOUT_EFFECT), read.found)
            read.error(option, place, f'the log driver {name} has no option "{key}"{near}')
        elif key == "max-size":
            size = read.attempt(option, place, lambda _, text=text: _size(text), size)  # type: ignore[misc]
        elif key == "max-file":
            files = read.attempt(option, place, lambda _, text=text: _count(text), files)  # type: ignore[misc]
        elif key == "max-buffer-size":
            read.attempt(option, place, lambda _, text=text: _size(text), 0)  # type: ignore[misc]
        elif key == "mode" and text not in ("blocking", "non-blocking"):
            read.error(option, place, f'"{text}" is not one of blocking, non-blocking')
        elif key == "compress":
            read.attempt(option, place, lambda _, text=text: cast_bool(text), False)  # type: ignore[misc]
    return Logging(policy.kept, size, files if size else 1) if policy.kept else policy


def ignored_logging(model: Node) -> list[Diagnostic]:
    """Drivers and options of the services in `model` that have no effect here."""
    found = []
    for service, node in services_of(model).items():
        item = node.get("logging")
        if item is None or not isinstance(item.value, dict):
            continue
        path, name = f"services.{service}.logging", _driver(item)
        driver = item.get("driver")
        if driver is not None and _is_remote(name):
            message = f"ignored: output is not sent to {name}, but kept here as by the driver local"
            found.append(diagnostic(driver, f"{path}.driver", message, hint="`pystack logs` shows it", code="ignored"))
        for key, option in _options(item) if name in _DEFAULTS else ():
            if key in _WITHOUT_EFFECT and not (key == "compress" and go_text(option.value).lower() in ("false", "0", "f")):
                message = f"ignored: {_WITHOUT_EFFECT[key]}"
                found.append(diagnostic(option, f"{path}.options.{key}", message, key=True, code="ignored"))
    return found


def _driver(item: Node) -> str:
    driver = item.get("driver")
    return (go_text(driver.value) if driver is not None and driver.value is not None else "") or JSON_FILE


def _is_remote(name: str) -> bool:
    """One of Docker's own, or a plug-in, which is named as an image is."""
    return name in _REMOTE or "/" in name or ":" in name


def _options(item: Node) -> list[tuple[str, Node]]:
    options = item.get("options")
    found = options.items() if options is not None else []
    return [(key, option) for key, option in found if option.value is not None]


def _size(text: str) -> int:
    size = -1 if text == "-1" else parse_bytes(text)
    if size == 0:
        raise ValueError(f'"{text}" is not a size that a file can have (write 10m, or nothing for no limit)')
    return max(0, size)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= _MOST_FILES:
        raise ValueError(f'"{text}" is not a number of files from 1 to {_MOST_FILES}')
    return int(text)
