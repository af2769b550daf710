"""Whether a config can be carried out as it stands: every key is read or refused, none ignored. Pure.

`schema` says what there is. A config that passes means in this runtime what it means in the spec; what we do not do is one
clear error instead of a container that is less confined, or less limited, than its config says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.contracts.runtime import OciConfig
from orchestrator.contracts.site import IdMap
from orchestrator.errors import InputError
from orchestrator.oci.schema import REFUSED, ROWS, Kind, Row
from orchestrator.oci.terms import NAMESPACES
from orchestrator.values import entity, field

_TYPES: Mapping[Kind, type | tuple[type, ...]] = {
    Kind.OBJECT: dict,
    Kind.MAP: dict,
    Kind.LIST: (list, tuple),
    Kind.TEXT: str,
    Kind.FLAG: bool,
    Kind.NUMBER: int,
}


def validate(config: OciConfig, ids: IdMap, cgroup: str) -> None:
    """`ids`: those of the project. `cgroup`: the container's, relative to each hierarchy's root. Raises InputError that
    names the path of what is not supported, not known, missing, or of the wrong type."""
    _walk(_TREE, config, "")
    _settled(config, ids, cgroup)


# ---- the walk ---------------------------------------------------------------------------------------------------------


@entity
class _Node:
    """A row, and those of its keys (``[]`` and ``*`` for all of a list or a map)."""

    row: Row
    below: dict[str, _Node] = field(default_factory=dict)
    needed: list[str] = field(default_factory=list)


def _tree() -> _Node:
    root = _Node(Row("", Kind.OBJECT))
    nodes = {"": root}
    for row in ROWS:
        parent, key = _split(row.path)
        node = nodes[row.path] = nodes[parent].below[key] = _Node(row)
        if row.needed:
            nodes[parent].needed.append(key)
        assert node.row.path == row.path
    return root


def _split(path: str) -> tuple[str, str]:
    if path.endswith("[]"):
        return path[:-2], "[]"
    parent, _, key = path.rpartition(".")
    return parent, key


_TREE = _tree()
_FILTER = _TREE.below["linux"].below["seccomp"]
_passed: list[object] = []
"""The last filter that passed, by identity: it is most of a config, and one object for all containers."""


def _walk(node: _Node, value: Any, place: str) -> None:
    row = node.row
    if not _has_type(row.kind, value):
        raise InputError(f"{place or 'the config'}: {_shown(value)} is not {row.kind.value}")
    match row.kind:
        case Kind.LIST:
            _walk_list(node.below["[]"], value, place)
        case Kind.MAP:
            for key, item in value.items():
                _walk(node.below["*"], item, f"{place}.{key}")
        case Kind.OBJECT if node is _FILTER:
            if not any(value is passed for passed in _passed):
                _walk_object(node, value, place)
                _passed[:] = [value]
        case Kind.OBJECT:
            _walk_object(node, value, place)
        case Kind.NUMBER if not row.low <= value <= row.high:
            raise InputError(f"{value} is not between {row.low} and {row.high}", place=place)
        case Kind.TEXT if "\0" in value:
            raise InputError("a string with a NUL character cannot be passed to the kernel", place=place)


def _has_type(kind: Kind, value: object) -> bool:
    return isinstance(value, _TYPES[kind]) and not (kind is Kind.NUMBER and isinstance(value, bool))


def _walk_list(node: _Node, items: list[Any], place: str) -> None:
    if node.row.kind is Kind.TEXT and all(type(item) is str for item in items) and "\0" not in "".join(items):
        return  # Hundreds of system calls' names, for each container.
    for number, item in enumerate(items):
        _walk(node, item, f"{place}[{number}]")


def _walk_object(node: _Node, value: Mapping[str, Any], place: str) -> None:
    prefix = f"{place}." if place else ""
    for key, item in value.items():
        below = node.below.get(key)
        if below is None:
            raise _stranger(node.row.path, key, f"{prefix}{key}")
        if item is not None:  # As if it were not there: Go's encoders write null for what is empty.
            _walk(below, item, f"{prefix}{key}")
    for key in node.needed:
        if value.get(key) is None:
            raise InputError(f"{prefix}{key} is missing")


def _stranger(parent: str, key: str, place: str) -> InputError:
    if (f"{parent}.{key}" if parent else key) in REFUSED:
        return InputError(f"{place} is not supported", hint="take it out of the config: nothing is ignored in silence")
    return InputError(f"{place} is not known to the runtime-spec", hint="a misspelt key would be ignored otherwise")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


# ---- what is settled --------------------------------------------------------------------------------------------------


def _settled(config: Mapping[str, Any], ids: IdMap, cgroup: str) -> None:
    linux = config.get("linux") or {}
    for place, given, fits in _demands(config, linux, ids, cgroup):
        if given is not None and not fits(given):
            note = next(row.note for row in ROWS if row.path == place)
            raise InputError(f"{_shown(given)} is not supported: {note}", place=place)
    if not config["process"]["args"]:
        raise InputError("process.args is empty")


def _demands(
    config: Mapping[str, Any], linux: Mapping[str, Any], ids: IdMap, cgroup: str
) -> Iterator[tuple[str, Any, Callable[[Any], bool]]]:
    """Place, what the config says there, and whether that is what happens."""
    mapping = [{"containerID": 0, "hostID": ids.host_base, "size": ids.count}]
    yield "ociVersion", config["ociVersion"], lambda text: text.split(".")[0] == "1"
    yield "linux.namespaces", linux.get("namespaces"), lambda items: {item["type"] for item in items} == {*NAMESPACES}
    yield "linux.uidMappings", linux.get("uidMappings"), lambda items: list(items) == mapping
    yield "linux.gidMappings", linux.get("gidMappings"), lambda items: list(items) == mapping
    yield "linux.cgroupsPath", linux.get("cgroupsPath"), lambda path: path.lstrip("/") == cgroup
