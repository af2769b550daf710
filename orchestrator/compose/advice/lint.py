"""Advice about a stack that loads: what is allowed, and is yet likely a mistake or a risk. Rule codes are stable.

Each rule is a row of `RULES` and a function that yields (node, compose path, message). The advice of rules that concern the
running of the stack (`AT_START`) is also given as a warning by ``up``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.selection import profiles_of, services_of, without_unused
from orchestrator.compose.schema.attributes import RESOURCES
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.shell import cut_at
from orchestrator.compose.text.tree import Node, diagnostic
from orchestrator.values import frozen, replace

Advice = Iterator[tuple[Node, str, str]]
Check = Callable[["Stack"], Advice]


@frozen
class Stack:
    """What the rules look at: the model with all its services, and the same without variables replaced."""

    model: Node
    raw: Node
    profiles: tuple[str, ...] = ()


@frozen
class Rule:
    """`level` is SARIF's: error, warning or note. `hint` says what to do; `example` is a mistake that the rule finds:
    attributes of a service, or a whole file. A warning that the loader itself gives has no `check`."""

    code: str
    name: str
    summary: str
    hint: str
    example: str
    check: Check | None = None
    level: str = "warning"


def _services(model: Node) -> Iterator[tuple[str, Node]]:
    yield from services_of(model).items()


def _elements(node: Node | None) -> Iterator[tuple[int, Node]]:
    yield from enumerate(node.elements() if node is not None else ())


def _command_cut(stack: Stack) -> Advice:
    for name, service in _services(stack.model):
        for key in ("command", "entrypoint"):
            node = service.get(key)
            text = node.text() if node is not None else None
            at = cut_at(text) if text is not None else None
            if node is not None and text is not None and at is not None:
                yield (
                    node,
                    f"services.{name}.{key}",
                    f'the command ends at "{text[at : at + 2].strip()}": no shell reads it',
                )


_TAG = re.compile(r":([^/:@]+)$")


def _unpinned(stack: Stack) -> Advice:
    for name, service in _services(stack.model):
        node = service.get("image")
        image = node.text() if node is not None else None
        if node is None or not image or service.get("build") is not None or "@" in image:
            continue
        if image == "host" or image.startswith("rootfs:"):
            continue
        tag = _TAG.search(image)
        if tag is None:
            yield node, f"services.{name}.image", f'"{image}" has no tag: what it means changes with time'
        elif tag[1] == "latest":
            yield node, f"services.{name}.image", f'"{image}" changes with time'


def _all_addresses(stack: Stack) -> Advice:
    for name, service in _services(stack.model):
        for number, port in _elements(service.get("ports")):
            published, host_ip = port.get("published"), port.get("host_ip")
            address = go_text(host_ip.value) if host_ip is not None else ""
            if published is not None and published.value and address in ("", "0.0.0.0", "::"):
                target = port.get("target")
                shown = go_text(target.value) if target is not None else "?"
                message = f"port {shown} is published on all addresses of this machine"
                yield port, f"services.{name}.ports[{number}]", message


def _health_not_awaited(stack: Stack) -> Advice:
    services = services_of(stack.model)
    for name, service in services.items():
        depends_on = service.get("depends_on")
        for other, item in depends_on.items() if depends_on is not None else ():
            condition = item.get("condition")
            check = services[other].get("healthcheck") if other in services else None
            if condition is None or condition.value != "service_started" or check is None or not check.value:
                continue
            disable = check.get("disable")
            if disable is None or disable.value is not True:
                message = f'waits for "{other}" to start only, though it has a health check'
                yield item, f"services.{name}.depends_on.{other}", message


def _dead_profile(stack: Stack) -> Advice:
    services = services_of(stack.model)
    for name, service in services.items():
        own = set(profiles_of(service))
        depends_on = service.get("depends_on")
        for other, item in depends_on.items() if depends_on is not None else ():
            required = item.get("required")
            if other not in services or (required is not None and required.value is False):
                continue
            needed = set(profiles_of(services[other]))
            if needed and not own & needed:
                shown = ", ".join(sorted(own)) or "no profile"
                message = f'needs "{other}", which none of its own profiles ({shown}) activates'
                yield item, f"services.{name}.depends_on.{other}", message


_SECRET = re.compile(r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|CREDENTIALS?)(?:$|_)", re.I)


def _secret_in_environment(stack: Stack) -> Advice:
    for name, service in _services(stack.raw):
        node = service.get("environment")
        if node is None:
            continue
        pairs = list(node.items())
        for item in node.elements():
            key, separator, value = go_text(item.value).partition("=")
            pairs.append((key, item.new(value if separator else None)))
        for key, item in pairs:
            text = go_text(item.value)
            if text and "$" not in text and _SECRET.search(key) and not key.upper().endswith("_FILE"):
                yield item, f"services.{name}.environment.{key}", f'the value of "{key}" stands in the file'


def _unused(stack: Stack) -> Advice:
    used = without_unused(stack.model)
    for section in RESOURCES:
        node, kept = stack.model.get(section), used.get(section)
        names = {key for key, _ in kept.items()} if kept is not None else set()
        for key, item in node.items() if node is not None else ():
            if key not in names and item.key_line and key != "default":
                yield item, f"{section}.{key}", "no service uses it"


def _drive_letter(stack: Stack) -> Advice:
    for name, service in _services(stack.model):
        for number, mount in _elements(service.get("volumes")):
            source, target = mount.get("source"), mount.get("target")
            for node in (source, target):
                text = node.text() if node is not None else None
                if text is not None and re.match(r"[a-zA-Z]:/", text):
                    message = f'"{text}" reads as a Windows drive, not as the volume "{text[0]}"'
                    yield mount, f"services.{name}.volumes[{number}]", message
                    break


def _relative_target(stack: Stack) -> Advice:
    for name, service in _services(stack.model):
        for number, mount in _elements(service.get("volumes")):
            target, source = mount.get("target"), mount.get("source")
            text = target.text() if target is not None else None
            if text is not None and not text.startswith("/") and not re.match(r"[a-zA-Z]:", text) and source is None:
                message = f'"{text}" alone is an anonymous volume, not a folder of this machine'
                yield mount, f"services.{name}.volumes[{number}]", message


def _engine_socket(stack: Stack) -> Advice:
    for name, service in _services(stack.model):
        for number, mount in _elements(service.get("volumes")):
            source = mount.get("source")
            if source is not None and go_text(source.value) in ("/var/run/docker.sock", "/run/docker.sock"):
                message = "the engine's socket gives the container all rights over this machine"
                yield mount, f"services.{name}.volumes[{number}]", message


def _privileged(stack: Stack) -> Advice:
    for name, service in _services(stack.model):
        node = service.get("privileged")
        if node is not None and node.value is True:
            yield node, f"services.{name}.privileged", "all rights over this machine are given away"


_OLD_SERVICE = {"links": "service names resolve on every network", "external_links": "use an external network"}


def _deprecated(stack: Stack) -> Advice:
    for name, service in _services(stack.raw):
        for key, instead in _OLD_SERVICE.items():
            node = service.get(key)
            if node is not None and node.value:
                yield node, f"services.{name}.{key}", f"{key} is of the past: {instead}"
        develop = service.get("develop")
        for number, rule in _elements(develop.get("watch") if develop is not None else None):
            old = rule.get("x-initialSync")
            if old is not None:
                path = f"services.{name}.develop.watch[{number}].x-initialSync"
                yield old, path, "x-initialSync is the old name of initial_sync"


def _boolean_words(stack: Stack) -> Advice:
    for name, service in _services(stack.raw):
        for key in ("init", "privileged", "read_only", "stdin_open", "tty", "oom_kill_disable"):
            node = service.get(key)
            text = node.text() if node is not None else None
            if node is not None and text is not None and text.lower() in ("y", "yes", "on", "n", "no", "off"):
                yield node, f"services.{name}.{key}", f'"{text}" is not a truth value of YAML 1.2'


def _unknown_profile(stack: Stack) -> Advice:
    known = {profile for _, service in _services(stack.model) for profile in profiles_of(service)}
    for profile in stack.profiles:
        if profile != "*" and profile not in known:
            yield stack.model, "", f'no service has the profile "{profile}"'


RULES: tuple[Rule, ...] = (
    Rule(
        "PS101",
        "command-cut",
        "an unquoted shell operator ends a command",
        "write [sh, -c, '...'], or quote it",
        "command: migrate && serve",
        _command_cut,
    ),
    Rule(
        "PS102",
        "unpinned-image",
        "an image without a fixed tag",
        "name a version, or a digest",
        "image: nginx",
        _unpinned,
        "note",
    ),
    Rule(
        "PS103",
        "port-on-all-addresses",
        "a port published on all addresses",
        "write 127.0.0.1:PUBLISHED:TARGET to publish it on this machine only",
        "ports: ['5432:5432']",
        _all_addresses,
        "note",
    ),
    Rule(
        "PS104",
        "health-not-awaited",
        "a dependency with a health check that nobody waits for",
        "write condition: service_healthy",
        "services: {a: {image: 'i:1', depends_on: [b]}, b: {image: 'i:1', healthcheck: {test: x}}}",
        _health_not_awaited,
    ),
    Rule(
        "PS105",
        "dead-profile",
        "a service whose profiles never activate what it needs",
        "give both a common profile, or write required: false",
        "services: {a: {image: 'i:1', profiles: [web], depends_on: [b]}, b: {image: 'i:1', profiles: [db]}}",
        _dead_profile,
    ),
    Rule(
        "PS106",
        "unknown-profile",
        "an active profile that no service has",
        "is it misspelt?",
        "pystack --profile debgu lint",
        _unknown_profile,
    ),
    Rule(
        "PS107",
        "secret-in-environment",
        "a secret written into the file",
        "take it from a variable or from secrets:",
        "environment: {DB_PASSWORD: hunter2}",
        _secret_in_environment,
    ),
    Rule(
        "PS108",
        "unused-resource",
        "a network, volume, config or secret that nobody uses",
        "remove it",
        "volumes: {data: {}}",
        _unused,
        "note",
    ),
    Rule(
        "PS109",
        "drive-letter",
        "a volume of one letter, which reads as a Windows drive",
        "give the volume a longer name",
        "volumes: ['d:/data']",
        _drive_letter,
    ),
    Rule(
        "PS110",
        "relative-target",
        "an anonymous volume at a relative path",
        "write ./FOLDER:/PATH to mount a folder",
        "volumes: [./src]",
        _relative_target,
    ),
    Rule(
        "PS111",
        "engine-socket",
        "the engine's socket in a container",
        "leave it out, or use a proxy",
        "volumes: ['/var/run/docker.sock:/var/run/docker.sock']",
        _engine_socket,
    ),
    Rule(
        "PS112",
        "privileged",
        "a privileged container",
        "add the capabilities it needs: cap_add",
        "privileged: true",
        _privileged,
    ),
    Rule(
        "PS113",
        "deprecated",
        "an attribute or a value of the past",
        "write what took its place",
        "links: [b]",
        _deprecated,
        "note",
    ),
    Rule(
        "PS114",
        "boolean-word",
        "yes, on and the like for true and false",
        "write true or false",
        "tty: yes",
        _boolean_words,
        "note",
    ),
)
AT_START = ("PS101", "PS109")
OF_THE_LOADER: tuple[Rule, ...] = (
    Rule("PS115", "obsolete-version", "the attribute version", "remove it", "version: '3.8'", level="note"),
    Rule(
        "PS116",
        "unset-variable",
        "a variable that is not set",
        "set it, or write ${NAME:-default}",
        "hostname: $NOWHERE",
    ),
    Rule(
        "PS117",
        "external-name",
        "the name of an external resource below external:",
        "write external: true, and name: beside it",
        "{services: {a: {image: 'i:1', networks: [n]}}, networks: {n: {external: {name: x}}}}",
        level="note",
    ),
)
"""Warnings of the loader itself, by the code it gives them: the name of the rule."""
BY_CODE = {rule.code: rule for rule in (*RULES, *OF_THE_LOADER)}
BY_NAME = {rule.name: rule for rule in BY_CODE.values()}


def advise(stack: Stack, rules: Iterable[Rule] = RULES) -> list[Diagnostic]:
    """What the rules find, in the order of the file."""
    out = []
    for rule in rules:
        for node, path, message in rule.check(stack) if rule.check is not None else ():
            if path:
                out.append(
                    replace(diagnostic(node, path, message, hint=rule.hint, key=not _has_place(node)), code=rule.code)
                )
            else:
                out.append(Diagnostic("", 0, 0, "", message, rule.hint, code=rule.code))
    return sorted(out, key=lambda item: (item.file, item.line, item.column, item.code))


def _has_place(node: Node) -> bool:
    return not isinstance(node.value, dict) or not node.key_line


def at_start(model: Node) -> list[Diagnostic]:
    """The advice that ``up`` gives as warnings too."""
    return advise(Stack(model, model), [rule for rule in RULES if rule.code in AT_START])
