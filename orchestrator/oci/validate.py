"""Whether a config can be carried out as it stands: every key is read or refused, none ignored. Pure.

`schema` says what there is. A config that passes means in this runtime what it means in the spec; what we do not do is one
clear error instead of a container that is less confined, or less limited, than its config says.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.contracts.runtime import OciConfig
from orchestrator.contracts.site import IdMap
from orchestrator.errors import InputError
from orchestrator.kernel.sysctls import sysctl_name, sysctl_namespace, sysctl_path
from orchestrator.oci.schema import REFUSED, ROWS, Kind, Row
from orchestrator.oci.terms import NAMESPACES
from orchestrator.values import entity, field

_WITHOUT_REFERENCES = 2
"""The version of marshal in which what is equal is equal bytes, whichever objects are shared in it."""
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
    once: bool = False
    """Looked at when it is not what it was in the config before: containers of one stack differ in little."""
    passed: bytes = b""


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
_WHOLES = (_TREE, _TREE.below["process"], _TREE.below["linux"])
for _part in (part for whole in _WHOLES for part in whole.below.values() if part not in (*_WHOLES, _FILTER)):
    _part.once = _part.row.kind in (Kind.OBJECT, Kind.MAP, Kind.LIST)
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
        if item is None:  # As if it were not there: Go's encoders write null for what is empty.
            continue
        (_walk_new if below.once else _walk)(below, item, f"{prefix}{key}")
    for key in node.needed:
        if value.get(key) is None:
            raise InputError(f"{prefix}{key} is missing")


def _walk_new(node: _Node, item: Any, place: str) -> None:
    """`_walk`, unless it is, to the type of every value, what has passed before."""
    try:
        told = marshal.dumps(item, _WITHOUT_REFERENCES)
    except ValueError:  # A subclass of what JSON has.
        told = b""
    if not told or told != node.passed:
        _walk(node, item, place)
        node.passed = told


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
    own = _own_namespaces(linux.get("namespaces") or ())
    _check_ids(linux, own, ids)
    for place, given, fits in _demands(config, linux, cgroup):
        if given is not None and not fits(given):
            note = next(row.note for row in ROWS if row.path == place)
            raise InputError(f"{_shown(given)} is not supported: {note}", place=place)
    if not config["process"]["args"]:
        raise InputError("process.args is empty")
    for name in linux.get("sysctl") or {}:
        _check_sysctl(name)


def _check_sysctl(name: str) -> None:
    place = f"linux.sysctl.{name}"
    try:
        sysctl_path(sysctl_name(name))
    except ValueError as exc:
        raise InputError(str(exc), place=place) from exc
    if sysctl_namespace(sysctl_name(name)) is None:
        raise InputError(f"{name} belongs to the whole machine, and no container has one of its own", place=place)


def _own_namespaces(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """The types, each known and named once; the mount namespace among them."""
    types: list[str] = [item["type"] for item in items]
    for number, kind in enumerate(types):
        place = f"linux.namespaces[{number}].type"
        if kind not in NAMESPACES:
            raise InputError(f"{_shown(kind)} is not a namespace: {', '.join(NAMESPACES)}", place=place)
        if kind in types[:number]:
            raise InputError(f"{_shown(kind)} is there already", place=place)
    if "mount" not in types:
        hint = "add it: a root file system needs one"
        raise InputError("a container without a mount namespace is not supported", hint=hint, place="linux.namespaces")
    return types


def _check_ids(linux: Mapping[str, Any], own: Collection[str], ids: IdMap) -> None:
    """What is not said is the project's."""
    mapping = [{"containerID": inner, "hostID": outer, "size": count} for inner, outer, count in ids.extents()]
    for key in ("uidMappings", "gidMappings"):
        given, place = linux.get(key), f"linux.{key}"
        if given and "user" not in own:
            message, hint = "the host's user namespace has no id mappings", 'add {"type": "user"} to linux.namespaces'
            raise InputError(message, hint=hint, place=place)
        if given is not None and "user" in own and list(given) not in (mapping, mapping[:1]):
            note = next(row.note for row in ROWS if row.path == place)
            raise InputError(f"{_shown(given)} is not supported: {note}", place=place)


def _is_below(path: str, cgroup: str) -> bool:
    """Whether it is the container's own group, or that below some parent."""
    parts = path.strip("/").split("/")
    return f"/{'/'.join(parts)}".endswith(f"/{cgroup}") and not {"", ".", ".."} & set(parts)


def _demands(
    config: Mapping[str, Any], linux: Mapping[str, Any], cgroup: str
) -> Iterator[tuple[str, Any, Callable[[Any], bool]]]:
    """Place, what the config says there, and whether that is what happens."""
    yield "ociVersion", config["ociVersion"], lambda text: text.split(".")[0] == "1"
    yield "linux.cgroupsPath", linux.get("cgroupsPath"), lambda path: _is_below(path, cgroup)
