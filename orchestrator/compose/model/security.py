"""What a service may do, as the runtime takes it: capabilities, security options, kernel parameters.

Source: compose-spec; the forms of Docker's ``--cap-add``, ``--security-opt`` and ``--sysctl``.
"""

from __future__ import annotations

import os.path

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.text.diagnostics import Diagnostic, nearest
from orchestrator.compose.text.files import FileError, read_text
from orchestrator.compose.text.tree import Node, diagnostic
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.kernel.sysctls import sysctl_name, sysctl_namespace, sysctl_path
from orchestrator.model.namespaces import Namespace, Sharing
from orchestrator.model.security import (
    ALL,
    BUILTIN,
    MOST_PROFILE_BYTES,
    OF_THE_MACHINE,
    UNCONFINED,
    Security,
    capability,
)
from orchestrator.model.service import Service
from orchestrator.values import replace

_NO_NEW_PRIVILEGES = {"": True, "true": True, "false": False}
_OPTIONS = ("no-new-privileges", "seccomp", "systempaths", "apparmor", "label")
_SHARED = {
    "network": ("network_mode", "network"),
    "ipc": ("ipc", "IPC"),
    "uts": ("uts", "UTS"),
}
"""Namespace -> the attribute that says whose it is, and what people call it."""


def capabilities(read: Reader, node: Node, path: str, key: str) -> tuple[str, ...]:
    """``cap_add`` and ``cap_drop``: names as the kernel has them, or ALL."""
    found = []
    for number, item in enumerate(read.each(node, key)):
        text = go_text(item.value)
        name = capability(text)
        if name is None:
            near = nearest(text.upper().removeprefix("CAP_"), [ALL, *_SHORT_NAMES], read.found)
            hint = "capabilities(7) has their names; or ALL"
            read.error(item, f"{path}.{key}[{number}]", f'there is no capability "{text}"{near}', hint)
        else:
            found.append(name)
    return tuple(dict.fromkeys(found))


_SHORT_NAMES = tuple(name.removeprefix("CAP_") for name in CAPABILITIES)


def security(read: Reader, node: Node, path: str) -> Security:
    """``privileged``, ``security_opt`` and ``sysctls``."""
    options = _Options(read)
    for number, item in enumerate(read.each(node, "security_opt")):
        options.take(item, f"{path}.security_opt[{number}]")
    return Security(
        privileged=read.flag(node, path, "privileged"),
        no_new_privileges=options.no_new_privileges,
        seccomp=options.seccomp,
        system_paths=options.system_paths,
        sysctls=_sysctls(read, node, path),
        labels=tuple(dict.fromkeys(options.labels)),
    )


def with_host_user(service: Service) -> Service:
    """What a privileged service may do, only the root of the machine may."""
    return replace(service, namespaces=replace(service.namespaces, user=Namespace(Sharing.HOST)))


class _Options:
    """``security_opt``: ``NAME=VALUE``, or ``NAME:VALUE`` as Docker once had it."""

    def __init__(self, read: Reader) -> None:
        self.read = read
        self.no_new_privileges = False
        self.seccomp = ""
        self.system_paths = True
        self.labels: list[str] = []

    def take(self, item: Node, place: str) -> None:
        text = go_text(item.value)
        mark = "=" if "=" in text else ":"
        name, _, value = text.partition(mark)
        match name:
            case "no-new-privileges" if value in _NO_NEW_PRIVILEGES:
                self.no_new_privileges = _NO_NEW_PRIVILEGES[value]
            case "no-new-privileges":
                self.read.error(item, place, f'"{value}" is neither true nor false', "write no-new-privileges:true")
            case "seccomp":
                self.seccomp = self._profile(item, place, value)
            case "systempaths" if value == UNCONFINED:
                self.system_paths = False
            case "systempaths":
                self.read.error(item, place, f'"{value}" is not unconfined', "write systempaths=unconfined")
            case "apparmor" | "label" if not value:
                self.read.error(item, place, f'"{text}" says no {"profile" if name == "apparmor" else "label"}')
            case "apparmor" | "label":
                # What takes nothing away asks for nothing that we would have to do.
                if value not in (UNCONFINED, "disable"):
                    self.labels.append("apparmor" if name == "apparmor" else "selinux")
            case _:
                near = nearest(name, _OPTIONS, self.read.found)
                hint = f"one of {', '.join(_OPTIONS)}"
                self.read.error(item, place, f'there is no security option "{name}"{near}', hint)

    def _profile(self, item: Node, place: str, value: str) -> str:
        if value in (UNCONFINED, BUILTIN):
            return value if value == UNCONFINED else ""
        if not value:
            self.read.error(item, place, "seccomp needs a file, unconfined or builtin", "write seccomp=./profile.json")
            return ""
        # Slow to import, and few stacks have one.
        from orchestrator.model.seccomp import parse_profile

        try:
            text = read_text(os.path.normpath(os.path.join(self.read.working_dir, value)), MOST_PROFILE_BYTES)
            parse_profile(text)
        except FileError as exc:
            self.read.error(item, place, f'the file "{value}" {exc}', exc.hint)
            return ""
        except ValueError as exc:
            self.read.error(item, place, f'the seccomp profile "{value}": {exc}')
            return ""
        return _compact(text)


def _compact(text: str) -> str:
    """Without what makes no difference, so that a container is not replaced for it."""
    import json

    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def _sysctls(read: Reader, node: Node, path: str) -> dict[str, str]:
    item = node.get("sysctls")
    found: dict[str, str] = {}
    for given, value in read.pairs(node, path, "sysctls", keep_null=True).items():
        place, name = f"{path}.sysctls.{given}", sysctl_name(given)
        assert item is not None
        written = (each for each in item.elements() if go_text(each.value).partition("=")[0] == given)
        where = item.get(given) or next(written, item)
        try:
            sysctl_path(name)
        except ValueError as exc:
            read.error(where, place, str(exc))
            continue
        namespace = sysctl_namespace(name)
        if namespace is None:
            message = f'"{name}" belongs to the whole machine, and no container has one of its own'
            read.error(where, place, message, f"set it on the host: sysctl -w {name}={value}")
        elif (text := read.text(node, _SHARED[namespace][0])) == "host":
            key, kind = _SHARED[namespace]
            message = f'"{name}" would change the host: the container shares its {kind} namespace ({key}: {text})'
            read.error(where, place, message, f"set it on the host: sysctl -w {name}={value}")
        elif not value:
            read.error(where, place, f'"{name}" has no value', f"write {name}: 1")
        else:
            found[name] = value
    return found


def has_host_ids(service: Node) -> bool:
    """Whether its root is the machine's root (`model.namespaces.Namespaces.host_user`)."""
    modes = [service.get(key) for key in ("userns_mode", "network_mode", "pid", "ipc")]
    privileged = service.get("privileged")
    return (privileged is not None and privileged.value is True) or any(mode and mode.value == "host" for mode in modes)


def idle_capabilities(model: Node) -> list[Diagnostic]:
    """A warning for each capability that is added and that the kernel asks for in its first user namespace alone, and for
    those that are to be dropped where ``privileged`` gives all."""
    found = []
    for name, service in services_of(model).items():
        added, dropped, privileged = (service.get(key) for key in ("cap_add", "cap_drop", "privileged"))
        if dropped is not None and dropped.value and privileged is not None and privileged.value is True:
            message = "ignored: privileged gives all capabilities, as in Docker"
            hint = "leave privileged out, and add what it needs: cap_add, devices, security_opt"
            found.append(diagnostic(dropped, f"services.{name}.cap_drop", message, hint=hint, key=True, code="ignored"))
        if has_host_ids(service):
            continue
        for number, item in enumerate(added.elements() if added is not None else ()):
            held = capability(go_text(item.value))
            if held in OF_THE_MACHINE:
                message = f"{held} counts for the whole machine alone: it lets nothing be done in a user namespace"
                hint = "userns_mode: host gives it its power, and takes away what keeps the container from the host"
                path = f"services.{name}.cap_add[{number}]"
                found.append(diagnostic(item, path, message, hint=hint, code="no-effect"))
    return found
