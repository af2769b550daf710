"""``x-pystack.ready`` and ``x-pystack.probe`` of a service: its health as seen from outside (docs/health-restarts.md).

Only stacks that have one of them import this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from orchestrator.compose.kinds.checking import check
from orchestrator.compose.kinds.values import duration_ns, go_text, whole_number
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.schema.attributes import X_PYSTACK
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node
from orchestrator.model.health import DeclaredPort, HealthCheck, Look, LookKind
from orchestrator.model.linepattern import LinePattern
from orchestrator.model.network import PortMapping
from orchestrator.units import NS_PER_SECOND
from orchestrator.values import replace

_KINDS = ("http", "tcp", "log", "file")
_REPEATED = ("interval", "retries", "start_period", "start_interval")
_MOST_PORTS = 256
"""That are looked at; each is a question to the kernel."""
_LEAST_NS = 1_000_000
_USUAL_PORTS = {"http": 80, "https": 443}
_URLS = "a path, :PORT/PATH, http://HOST:PORT/PATH or https://HOST:PORT/PATH"
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp))?", re.IGNORECASE)


def check_from_outside(
    read: Reader, node: Node, path: str, own: HealthCheck | None, ports: Sequence[PortMapping]
) -> HealthCheck | None:
    """What `x-pystack` says instead of the health check `own`, if it says something. `ports`: those of the service."""
    extension = node.get("x-pystack")
    wrong: list[Diagnostic] = []
    if extension is None or not isinstance(extension.value, dict):
        return own
    check(extension, X_PYSTACK, f"{path}.x-pystack", wrong)  # That is told with the rest of x-pystack.
    ready, probe = extension.get("ready"), extension.get("probe")
    if wrong or (found := ready or probe) is None:
        return own
    place = f"{path}.x-pystack.{'probe' if ready is None else 'ready'}"
    read.mark(found, place)
    if ready is not None and probe is not None:
        read.error(probe, f"{path}.x-pystack.probe", "ready and probe exclude each other: each says when it is healthy")
    elif own is not None and not own.disabled:
        hint = "`healthcheck: {disable: true}` beside it is allowed"
        read.error(found, place, "it has a healthcheck, too: each says when it is healthy", hint)
    declared = _declared(read, node, ports)
    return _ready(read, found, place, declared) if ready is not None else _probe(read, found, place, declared, node)


def _declared(read: Reader, node: Node, ports: Sequence[PortMapping]) -> tuple[DeclaredPort, ...]:
    found = [DeclaredPort(port.target, port.protocol) for port in ports]
    for text in read.texts(node, "expose"):
        found += _ports_in(text)
    return tuple(dict.fromkeys(found))


def _ports_in(text: str) -> list[DeclaredPort]:
    """``80``, ``53/udp``, ``3000-3005``; nothing for what is none."""
    if (match := _PORT.fullmatch(text)) is None:
        return []
    first, last, protocol = match.groups()
    numbers = range(int(first), min(int(last or first), int(first) + _MOST_PORTS) + 1)
    return [DeclaredPort(number, (protocol or "tcp").lower()) for number in numbers if 1 <= number <= 65535]


def _ready(read: Reader, node: Node, place: str, declared: tuple[DeclaredPort, ...]) -> HealthCheck:
    wanted, within = node.get("listening"), node.get("timeout")
    look = Look(LookKind.LISTENING, declared, any=not declared)
    if wanted is not None and isinstance(wanted.value, list):
        look = replace(look, ports=_listed(read, wanted, f"{place}.listening"), any=False)
    elif wanted is not None and wanted.value == "any":
        look = replace(look, any=True)
    if len(look.ports) > _MOST_PORTS:
        hint = "name some of them: `ready: {listening: [8080]}`"
        read.error(node, place, f"these are more than {_MOST_PORTS} ports to look at", hint)
    return HealthCheck(look=look, timeout_s=_seconds(read, within, f"{place}.timeout"))


def _listed(read: Reader, node: Node, place: str) -> tuple[DeclaredPort, ...]:
    found: list[DeclaredPort] = []
    for number, item in enumerate(node.elements()):
        text = go_text(item.value)
        if not (ports := _ports_in(text)):
            read.error(item, f"{place}[{number}]", f'"{text}" is not a port, such as 80, 53/udp or 8000-8005')
        found += ports
    if not found and not node.elements():
        read.error(node, place, "names no port", "`any` is one of the declared ports")
    return tuple(dict.fromkeys(found))


def _probe(read: Reader, node: Node, place: str, declared: tuple[DeclaredPort, ...], service: Node) -> HealthCheck:
    kinds = [kind for kind in _KINDS if node.get(kind) is not None]
    if len(kinds) != 1:
        but = f", and not {' and '.join(kinds)}" if kinds else ""
        read.error(node, place, f"a probe is one of {', '.join(_KINDS)}{but}")
        return HealthCheck()
    (kind,) = kinds
    item = node.get(kind)
    assert item is not None
    look = read.attempt(item, f"{place}.{kind}", lambda each: _look(kind, go_text(each.value), declared), None)
    if kind == "log":
        _check_log(read, node, place, service)
    retries = node.get("retries")
    count = read.attempt(retries, f"{place}.retries", whole_number, 0) if retries is not None else 0
    seconds = {key: _seconds(read, node.get(key), f"{place}.{key}") for key in (*_REPEATED, "timeout") if key != "retries"}
    return HealthCheck(
        look=look,
        interval_s=seconds["interval"],
        timeout_s=seconds["timeout"],
        retries=max(count, 0),
        start_period_s=seconds["start_period"],
        start_interval_s=seconds["start_interval"],
    )


def _check_log(read: Reader, node: Node, place: str, service: Node) -> None:
    for key in _REPEATED:
        if (item := node.get(key)) is not None:
            read.error(item, f"{place}.{key}", "a log is followed, not looked at again and again: it has a timeout only")
    logging = service.get("logging")
    driver = logging.get("driver") if logging is not None else None
    if driver is not None and driver.value == "none":
        read.error(driver, f"{place}.log", "nothing is kept of what it writes", "choose another logging driver than none")


def _look(kind: str, text: str, declared: tuple[DeclaredPort, ...]) -> Look:
    """Raises ValueError."""
    match kind:
        case "tcp":
            ports = _ports_in(text)
            if len(ports) != 1 or ports[0].protocol != "tcp":
                raise ValueError(f'"{text}" is not a port from 1 to 65535')
            return Look(LookKind.TCP, tuple(ports))
        case "http":
            return _request(text, declared)
        case "file":
            if not text.startswith("/") or "\0" in text:
                raise ValueError(f'"{text}" is not an absolute path')
            return Look(LookKind.FILE, path=text)
        case _:
            if not text:
                raise ValueError("an empty pattern is found in every line")
            LinePattern(text)
            return Look(LookKind.LOG, pattern=text)


def _request(text: str, declared: tuple[DeclaredPort, ...]) -> Look:
    """Raises ValueError."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a URL has printable ASCII characters only, and no spaces: write others as %20")
    url = urlsplit(f"http://localhost{text}" if text[:1] in ("/", ":") else text)
    try:
        own = url.port
        if url.scheme == "https":
            (url.hostname or "").encode("idna")  # As TLS says it to the server.
    except ValueError:
        raise ValueError(f'"{text}" is not {_URLS}') from None
    if url.scheme not in _USUAL_PORTS or not url.hostname or url.username is not None:
        raise ValueError(f'"{text}" is not {_URLS}')
    usual = _USUAL_PORTS[url.scheme]
    first = next((port.number for port in declared if port.protocol == "tcp"), None)
    number = own or (first if text.startswith("/") else usual)
    if number is None:
        raise ValueError(f'the service declares no tcp port; write it: ":8080{text}"')
    host = url.netloc if own or number == usual else f"{url.netloc}:{number}"
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Look(LookKind.HTTP, (DeclaredPort(number),), path=path, host=host, tls=url.scheme == "https")


def _seconds(read: Reader, node: Node | None, place: str) -> float:
    """0 where it is not said."""
    value = read.attempt(node, place, duration_ns, None) if node is not None else None
    if node is None or not value:
        return 0.0
    if value < _LEAST_NS:
        read.error(node, place, "must be at least 1ms (0 stands for the default)")
    return value / NS_PER_SECOND
