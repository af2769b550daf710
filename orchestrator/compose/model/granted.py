"""The secrets and configs of a service, as the runtime takes them.

Source: compose-spec, and Docker Compose v5.6.1: a ``file:`` is bound as it is; uid, gid and mode count for the others.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic
from orchestrator.model.granted import DEFAULT_MODE, MOST_BYTES, GrantedFile
from orchestrator.model.volume import Mount

MOST_ID = 2**32 - 2
_KINDS = (("secrets", "secret", "/run/secrets/"), ("configs", "config", "/"))
"""Section, name, and where relative targets are."""
_OF_A_COPY = ("uid", "gid", "mode")


def is_external(node: Node) -> bool:
    external = node.get("external")
    return external is not None and external.value is True


def check_granted(read: Reader, section: str, name: str, node: Node) -> None:
    """Whether a secret or a config can be had at all."""
    external = node.get("external")
    if external is not None and is_external(node):
        others = "file:, environment: or content:" if section == "configs" else "file: or environment:"
        message = "external: true means the store of a Swarm, and there is none here"
        read.error(external, f"{section}.{name}.external", message, f"say where it is with {others}")


def granted_files(read: Reader, node: Node, path: str, mounts: Iterable[Mount]) -> tuple[GrantedFile, ...]:
    """What a service is granted. `mounts`: what it has at their targets already."""
    found = []
    taken = {_clean(mount.target): mount.place for mount in mounts}
    for section, kind, folder in _KINDS:
        known = dict(read.section(section))
        for number, item in enumerate(read.each(node, section)):
            place = f"{path}.{section}[{number}]"
            name = read.text(item, "source") or ""
            if name not in known or is_external(known[name]):  # The rules, and `check_granted`, say so.
                continue
            target = _clean(folder + name if (text := read.text(item, "target")) is None else _below(folder, text))
            if "\0" in target:
                read.error(item, place, "the target holds a NUL byte")
            if target in taken:
                read.error(item, place, f"something is mounted at {target} already: {taken[target]}")
            taken[target] = place
            found.append(_granted(read, item, place, f'{kind} "{name}"', target, known[name]))
    return tuple(found)


def _granted(read: Reader, item: Node, place: str, name: str, target: str, definition: Node) -> GrantedFile:
    mode = item.get("mode")
    uid, gid = owner(read, item, place, "uid"), owner(read, item, place, "gid")
    bits = read.attempt(mode, f"{place}.mode", file_mode, None) if mode is not None else None
    file, variable, text = read.text(definition, "file"), read.text(definition, "environment"), definition.get("content")
    if file is not None:
        return GrantedFile(target, name, source=file, place=place)
    content = read.variable(variable, definition) if variable is not None else None
    if variable is None:
        content = go_text(text.value) if text is not None else ""
    data = content.encode("utf-8", "surrogateescape") if content is not None else b""
    if len(data) > MOST_BYTES:
        message = f"the {name} has {len(data)} bytes, and {MOST_BYTES} is the most"
        read.error(item, place, message, hint="put it into a file, and name that with file:")
    return GrantedFile(
        target,
        name,
        variable=variable or "",
        content=content,
        digest=_digest(data) if content is not None else "",
        uid=uid or 0,
        gid=gid or 0,
        mode=DEFAULT_MODE if bits is None else bits,
        place=place,
    )


def _digest(data: bytes) -> str:
    import hashlib  # Slow to import, and few stacks need it.

    return hashlib.sha256(data).hexdigest()


def _below(folder: str, target: str) -> str:
    return target if target.startswith("/") else folder + target


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def ignored_owners(model: Node) -> list[Diagnostic]:
    """A warning for each uid, gid and mode of what is a file of the host's, and stays as that is."""
    found = []
    for name, service in services_of(model).items():
        for section, kind, _ in _KINDS:
            entries, known = service.get(section), model.get(section)
            for number, item in enumerate(entries.elements() if entries is not None else ()):
                source = item.get("source")
                definition = known.get(go_text(source.value)) if known is not None and source is not None else None
                if definition is None or definition.get("file") is None:
                    continue
                for key in _OF_A_COPY:
                    if (given := item.get(key)) is not None and given.value not in (None, ""):
                        message = f"ignored: the {kind} is a file of the host's, and keeps what that has"
                        path = f"services.{name}.{section}[{number}].{key}"
                        found.append(diagnostic(given, path, message, key=True, code="ignored"))
    return found


def owner(read: Reader, node: Node, place: str, key: str) -> int | None:
    """The number of a user or a group."""
    item = node.get(key)
    text = read.text(node, key)
    if item is None or text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) > MOST_ID:
        read.error(item, f"{place}.{key}", f'"{text}" is not the number of a user or a group')
        return None
    return int(text)


def file_mode(node: Node) -> int:
    """Text is octal (``"0440"``); YAML has read a number already. Raises ValueError."""
    text = go_text(node.value)
    try:
        mode = int(text, 8) if isinstance(node.value, str) else int(text)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise ValueError(f'"{text}" is not a file mode (write 0440)')
    return mode
