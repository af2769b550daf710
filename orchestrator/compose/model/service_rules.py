"""What must hold for one service beyond the shape of each attribute: references to other parts, and contradictions.

Source: compose-spec, and the measured behaviour of Docker Compose v5.6.1; where it stops at the first error, all are
reported here.
"""

from __future__ import annotations

from orchestrator.compose.kinds.values import MAX_INT, byte_size, cast_float, cast_int, go_text
from orchestrator.compose.model.selection import missing_dependency
from orchestrator.compose.text.diagnostics import Diagnostic, Related, nearest
from orchestrator.compose.text.tree import Node, diagnostic, place_of
from orchestrator.values import replace


class ServiceRules:
    """What must hold for one service. `chosen`: the services that take part; `wrong`: paths with findings already."""

    def __init__(
        self,
        model: Node,
        name: str,
        node: Node,
        services: dict[str, Node],
        chosen: set[str],
        found: list[Diagnostic],
        wrong: set[str],
        section: str = "services",
    ) -> None:
        self.wrong = wrong
        self.model = model
        self.name = name
        self.node = node
        self.services = services
        self.chosen = chosen
        self.found = found
        self.path = f"{section}.{name}"

    def report(
        self,
        node: Node,
        path: str,
        message: str,
        *,
        hint: str | None = None,
        key: bool = False,
        related: tuple[Related, ...] = (),
    ) -> None:
        """A finding. What another file adds to the service names the service too."""
        if node.source is not self.node.source:
            related = (*related, place_of(self.node, self.path, key=True))
        self.found.append(diagnostic(node, self.path + path, message, hint=hint, key=key, related=related))

    def check(self) -> None:
        """Add to `found` whatever is wrong."""
        self._image()
        self._build()
        self._networks()
        self._dependencies()
        self._volumes()
        self._files()
        self._health()
        self._watch()
        self._replicas()
        self._limits()
        self._container_name()

    def _has(self, key: str) -> bool:
        node = self.node.get(key)
        return node is not None and node.value not in (None, "")

    def _at(self, *keys: str) -> Node | None:
        node: Node | None = self.node
        for key in keys:
            node = node.get(key) if node is not None else None
        return node

    def _image(self) -> None:
        if not any(self._has(key) for key in ("image", "build", "provider")) and self.path not in self.wrong:
            self.report(self.node, "", "has neither an image nor a build", hint="add image:", key=True)

    def _build(self) -> None:
        file, inline = self._at("build", "dockerfile"), self._at("build", "dockerfile_inline")
        if file is not None and file.value and inline is not None and inline.value:
            message = "dockerfile and dockerfile_inline exclude each other"
            self.report(inline, ".build", message, key=True, related=(place_of(file, "dockerfile", key=True),))
        contexts = self._at("build", "additional_contexts")
        for key, item in contexts.items() if contexts is not None else ():
            text = item.text() or ""
            if not text.startswith("service:"):
                continue
            other = text.removeprefix("service:")
            if other not in self.services:
                near = nearest(other, self.services, self.found)
                self.report(item, f".build.additional_contexts.{key}", f'"{other}" is not a service{near}')
            elif self.services[other].get("build") is None:
                related = (place_of(self.services[other], f"services.{other}", key=True),)
                message = f'the service "{other}" has no build'
                self.report(item, f".build.additional_contexts.{key}", message, related=related)
        platform, platforms = self._at("platform"), self._at("build", "platforms")
        if platform is None or not platform.value or platforms is None or not platforms.elements():
            return
        if go_text(platform.value) not in [go_text(item.value) for item in platforms.elements()]:
            message = f'must hold the platform of the service, "{go_text(platform.value)}"'
            self.report(platforms, ".build.platforms", message, related=(place_of(platform, "platform", key=True),))

    def _section(self, name: str) -> dict[str, Node]:
        node = self.model.get(name)
        return node.value if node is not None and isinstance(node.value, dict) else {}

    def _undefined(self, node: Node, path: str, name: str, section: str, kind: str, *, key: bool = False) -> None:
        known = self._section(section)
        if name in known:
            return
        near = nearest(name, known, self.found)
        hint = None if near else f"declare it at the top level, under {section}:"
        self.report(node, path, f'"{name}" is not a {kind} of this stack{near}', hint=hint, key=key)

    def _networks(self) -> None:
        networks, mode = self._at("networks"), self._at("network_mode")
        if networks is not None and networks.value and mode is not None and mode.value:
            message = "network_mode and networks exclude each other"
            self.report(mode, ".network_mode", message, key=True, related=(place_of(networks, "networks", key=True),))
        for name, item in networks.items() if networks is not None else ():
            if name != "default":
                self._undefined(item, f".networks.{name}", name, "networks", "network", key=True)
        models = self._at("models")
        for name, item in models.items() if models is not None else ():
            self._undefined(item, ".models", name, "models", "model", key=True)

    def _dependencies(self) -> None:
        implied = self._others()
        depends_on = self._at("depends_on")
        for name, item in depends_on.items() if depends_on is not None else ():
            required = item.get("required")
            if name in self.chosen or (name in self.services and required is not None and required.value is False):
                continue
            if name not in self.services and (item.key_line, item.key_column) in implied:
                continue
            finding = missing_dependency(item, f"{self.path}.depends_on", name, self.services, self.found)
            if item.source is not self.node.source:
                finding = replace(finding, related=(*finding.related, place_of(self.node, self.path, key=True)))
            self.found.append(finding)

    def _others(self) -> set[tuple[int, int]]:
        """Report what is shared with or linked to services that are none. Returns the places that name services, at which
        the dependencies stand that they imply (`normalize`)."""
        named: list[tuple[Node, str, str]] = []
        for key in ("network_mode", "pid", "ipc"):
            node = self._at(key)
            kind, _, name = (node.text() or "" if node is not None else "").partition(":")
            if node is not None and kind == "service":
                named.append((node, f".{key}", name))
        for key in ("links", "volumes_from"):
            written = self._at(key)
            for number, node in enumerate(written.elements() if written is not None else ()):
                name = go_text(node.value).partition(":")[0]
                if key == "links" or not go_text(node.value).startswith("container:"):
                    named.append((node, f".{key}[{number}]", name))
        for node, path, name in named:
            if name not in self.services:
                self.report(node, path, f'"{name}" is not a service{nearest(name, self.services, self.found)}')
        return {(node.line, node.column) for node, _, _ in named}

    def _volumes(self) -> None:
        targets: dict[str, tuple[str, Node]] = {}
        tmpfs = self._at("tmpfs")
        for number, item in enumerate(_one_or_more(tmpfs)):
            self._target(item, f".tmpfs[{number}]", go_text(item.value).split(":")[0], targets)
        volumes = self._at("volumes")
        for number, mount in enumerate(volumes.elements() if volumes is not None else ()):
            kind, source, target = mount.get("type"), mount.get("source"), mount.get("target")
            path = f".volumes[{number}]"
            if kind is not None and kind.value == "volume" and source is not None and source.value:
                self._undefined(source, path, go_text(source.value), "volumes", "volume")
            if kind is not None and kind.value == "bind" and (source is None or not source.value):
                self.report(mount, path, "a bind mount needs a source")
            if target is not None:
                self._target(mount, path, go_text(target.value), targets)

    def _target(self, node: Node, path: str, target: str, targets: dict[str, tuple[str, Node]]) -> None:
        if target in targets:
            first = self.path + targets[target][0]
            message = f"something is mounted at {target} already: {first}"
            self.report(node, path, message, related=(place_of(targets[target][1], first),))
        else:
            targets[target] = (path, node)

    def _files(self) -> None:
        for section, kind in (("configs", "config"), ("secrets", "secret")):
            for keys in ((section,), ("build", section)):
                node = self._at(*keys)
                for number, item in enumerate(node.elements() if node is not None else ()):
                    source = item.get("source")
                    path = f".{'.'.join(keys)}[{number}]"
                    if source is None or not source.value:
                        self.report(item, path, f"names no {kind}", hint="add source:")
                    else:
                        self._undefined(source, path, go_text(source.value), section, kind)

    def _health(self) -> None:
        test = self._at("healthcheck", "test")
        if test is None or not isinstance(test.value, list) or not test.value:
            return
        first = go_text(test.value[0].value)
        if first not in ("CMD", "CMD-SHELL", "NONE"):
            self.report(
                test.value[0],
                ".healthcheck.test",
                f'a list must start with CMD, CMD-SHELL or NONE, not "{first}"',
                hint=f"write [CMD, {first}, ...]",
            )

    def _watch(self) -> None:
        watch = self._at("develop", "watch")
        for number, rule in enumerate(watch.elements() if watch is not None else ()):
            action, target = rule.get("action"), rule.get("target")
            needs = action is not None and go_text(action.value) in ("sync", "sync+restart", "sync+exec")
            if needs and (target is None or not target.value):
                self.report(rule, f".develop.watch[{number}]", "this action needs a target", hint="add target: /path")

    def _replicas(self) -> None:
        replicas, scale = self._at("deploy", "replicas"), self._at("scale")
        for node, path in ((scale, ".scale"), (replicas, ".deploy.replicas")):
            count = _number(node) if node is not None else None
            if node is not None and count is not None and not 0 <= count <= MAX_INT:
                self.report(node, path, "must not be negative" if count < 0 else f"must be at most {MAX_INT}")
        if replicas is not None and scale is not None and _number(replicas) != _number(scale):
            related = (place_of(replicas, "deploy.replicas"),)
            self.report(scale, ".scale", f"differs from deploy.replicas, {go_text(replicas.value)}", related=related)

    def _limits(self) -> None:
        for own, group, key in (
            ("cpus", "limits", "cpus"),
            ("mem_limit", "limits", "memory"),
            ("pids_limit", "limits", "pids"),
            ("mem_reservation", "reservations", "memory"),
        ):
            mine, others = self._at(own), self._at("deploy", "resources", group)
            if mine is None or others is None or not _amount(mine):
                continue
            other = others.get(key)
            if (_amount(other) if other is not None else 0) != _amount(mine):
                path = f"deploy.resources.{group}"
                related = (place_of(others if other is None else other, path if other is None else f"{path}.{key}"),)
                message, hint = f"differs from {path}.{key}", "say it once, or say the same"
                self.report(mine, f".{own}", message, hint=hint, related=related)

    def _container_name(self) -> None:
        node = self._at("container_name")
        if node is None or not node.value:
            return
        for path in (("scale",), ("deploy", "replicas")):
            count = self._at(*path)
            if count is not None and (_number(count) or 0) > 1:
                message = "more than one container cannot have one container_name"
                self.report(count, "." + ".".join(path), message, related=(place_of(node, "container_name"),))
                break


def _one_or_more(node: Node | None) -> list[Node]:
    if node is None:
        return []
    return [node] if isinstance(node.value, str) else node.elements()


def _number(node: Node) -> int | None:
    if isinstance(node.value, int | float):
        return int(node.value)
    try:
        return cast_int(go_text(node.value))
    except ValueError:
        return None


def _amount(node: Node) -> float:
    """A limit as a number; 0 for what is none (its error is reported elsewhere)."""
    try:
        return cast_float(go_text(node.value))
    except ValueError:
        pass
    try:
        return byte_size(node)
    except ValueError:
        return 0
