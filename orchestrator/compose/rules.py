"""What must hold between the parts of a model, beyond the shape of each: references, contradictions, exclusions.

Source: compose-spec, and the measured behaviour of Docker Compose v5.6.1; where it stops at the first error, all are
reported here.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.compose.diagnostics import Diagnostic, did_you_mean
from orchestrator.compose.selection import services_of
from orchestrator.compose.tree import Node, diagnostic
from orchestrator.compose.values import go_text

Report = Callable[..., None]


def check_references(model: Node, chosen: set[str], found: list[Diagnostic]) -> None:
    """Add to `found` what is wrong between the parts of the `chosen` services and the resources they name."""
    services = services_of(model)
    for name in services:
        if name in chosen:
            _Service(model, name, services[name], services, chosen, found).check()


class _Service:
    def __init__(
        self, model: Node, name: str, node: Node, services: dict[str, Node], chosen: set[str], found: list[Diagnostic]
    ) -> None:
        self.model = model
        self.node = node
        self.services = services
        self.chosen = chosen
        self.found = found
        self.path = f"services.{name}"

    def report(self, node: Node, path: str, message: str, *, hint: str | None = None, key: bool = False) -> None:
        self.found.append(diagnostic(node, self.path + path, message, hint=hint, key=key))

    def check(self) -> None:
        self._image()
        self._networks()
        self._dependencies()
        self._volumes()
        self._files()
        self._health()

    def _has(self, key: str) -> bool:
        node = self.node.get(key)
        return node is not None and node.value not in (None, "")

    def _image(self) -> None:
        if not any(self._has(key) for key in ("image", "build", "provider")) and not self._has_errors():
            self.report(self.node, "", "has neither an image nor a build", hint="add image:", key=True)

    def _has_errors(self) -> bool:
        return any(item.path == self.path or item.path.startswith(self.path + ".") for item in self.found)

    def _section(self, name: str) -> dict[str, Node]:
        node = self.model.get(name)
        return node.value if node is not None and isinstance(node.value, dict) else {}

    def _undefined(self, node: Node, path: str, name: str, section: str, kind: str, *, key: bool = False) -> None:
        known = self._section(section)
        if name in known:
            return
        near = did_you_mean(name, known)
        hint = None if near else f"declare it at the top level, under {section}:"
        self.report(node, path, f'"{name}" is not a {kind} of this stack{near}', hint=hint, key=key)

    def _networks(self) -> None:
        networks = self.node.get("networks")
        mode = self.node.get("network_mode")
        if networks is not None and networks.value and mode is not None and mode.value:
            self.report(mode, ".network_mode", "network_mode and networks exclude each other", key=True)
        for name, item in networks.items() if networks is not None else ():
            if name != "default":
                self._undefined(item, f".networks.{name}", name, "networks", "network", key=True)
        text = mode.text() if mode is not None else None
        if mode is not None and text is not None and text.startswith("service:"):
            other = text.removeprefix("service:")
            if other not in self.services:
                self.report(mode, ".network_mode", f'"{other}" is not a service{did_you_mean(other, self.services)}')

    def _dependencies(self) -> None:
        depends_on = self.node.get("depends_on")
        for name, item in depends_on.items() if depends_on is not None else ():
            required = item.get("required")
            if name not in self.services:
                near = did_you_mean(name, self.services)
                self.report(item, ".depends_on", f'"{name}" is not a service{near}', key=True)
            elif name not in self.chosen and (required is None or required.value is not False):
                profiles = ", ".join(go_text(p.value) for p in (self.services[name].get("profiles") or item).elements())
                self.report(
                    item,
                    ".depends_on",
                    f'"{name}" is not active: none of its profiles is ({profiles})',
                    hint="activate one with --profile, or write required: false",
                    key=True,
                )

    def _volumes(self) -> None:
        volumes = self.node.get("volumes")
        for number, mount in enumerate(volumes.elements() if volumes is not None else ()):
            kind, source = mount.get("type"), mount.get("source")
            path = f".volumes[{number}]"
            if kind is not None and kind.value == "volume" and source is not None and source.value:
                self._undefined(source, path, go_text(source.value), "volumes", "volume")

    def _files(self) -> None:
        for section, kind in (("configs", "config"), ("secrets", "secret")):
            node = self.node.get(section)
            for number, item in enumerate(node.elements() if node is not None else ()):
                source = item.get("source")
                if source is not None:
                    self._undefined(source, f".{section}[{number}]", go_text(source.value), section, kind)
        build = self.node.get("build")
        secrets = build.get("secrets") if build is not None else None
        for number, item in enumerate(secrets.elements() if secrets is not None else ()):
            source = item.get("source")
            if source is not None:
                self._undefined(source, f".build.secrets[{number}]", go_text(source.value), "secrets", "secret")

    def _health(self) -> None:
        check = self.node.get("healthcheck")
        test = check.get("test") if check is not None else None
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
