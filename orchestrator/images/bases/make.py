"""`image make`: a base as an image of the store, in one layer that is the same for the same packages."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import trio

from orchestrator.contracts.images import Progress
from orchestrator.errors import InputError
from orchestrator.images.bases import alpine, busybox, machine, system
from orchestrator.images.bases.apt import Apt, locked
from orchestrator.images.bases.debian import Debian
from orchestrator.images.bases.names import base_for
from orchestrator.images.bases.recipes import PATH, Recipe, recipe_of
from orchestrator.images.bases.tree import Tree
from orchestrator.images.reference import Named, parse_named
from orchestrator.images.spec.config import History, make_config
from orchestrator.images.spec.digest import Digest, digest
from orchestrator.images.spec.platform import host_platform
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.unpack.packing import write_tree
from orchestrator.values import entity, frozen

KINDS = ("debian", "busybox", "alpine", "host")
_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "debian": {"Cmd": ["bash"]},
    "busybox": {"Cmd": ["sh"]},
    "alpine": {"Cmd": ["/bin/sh"]},
    "host": {"Cmd": ["sh"]},
}

_BELOW = "pystack image make debian"
"""The history of the layer below: what it would be by itself."""

Fill = Callable[[Tree, Callable[[str], None]], None]


@frozen
class Wanted:
    """What to make, checked. `packages`: of Debian, or paths of the host's, beside the recipes'."""

    kind: str
    packages: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    tags: tuple[Named, ...]

    @property
    def command(self) -> str:
        """As it would be typed: the layer's history."""
        names = [*(recipe.name for recipe in self.recipes), *self.packages]
        return f"pystack image make {self.kind}" + (f" --include {','.join(names)}" if names else "")


async def make(
    store: Store,
    wanted: Wanted,
    *,
    cache: str,
    progress: Progress,
    most_time_s: int | None = None,
    root: str = "/",
    environ: Mapping[str, str] | None = None,
) -> StoredImage:
    """Make a base and name it. `cache`: a directory for what is fetched. `most_time_s`: no file is later
    (SOURCE_DATE_EPOCH). `root`: whose ``host``; another than / is for tests. `environ`: the machine's, for
    `system.bundle_variables`. Several may be made at once, also by several processes.

    Raises InputError for what is asked wrongly (also a package that nobody has), HostError for what this machine lacks
    (apt, disk), OperationError for what cannot be fetched or is damaged. Cancelling leaves nothing but what was fetched.
    """
    steps = await _prepare(wanted, cache, progress, root)
    config = _config(wanted, system.bundle_variables(environ or {}) if wanted.kind == "debian" else {})
    tell = _Teller(progress)
    with store.lease() as lease:
        layers: list[_Made] = []
        for step in steps:
            # What lies below several that are made at once is made by one of them, and found by the others.
            async with locked(os.path.join(cache, "below.lock")) if step is not steps[-1] else nullcontext():
                layers.append(await trio.to_thread.run_sync(_layer, store, lease, step, tuple(layers), most_time_s, tell))
        return await trio.to_thread.run_sync(_put, store, wanted, layers, config)


def wanted_of(text: str) -> Wanted:
    """A kind of base, or a name that a base stands for. Raises InputError."""
    if text in KINDS:
        return check(text, (), ())
    base = base_for(parse_named(text))
    if base is None:
        kinds = ", ".join(KINDS)
        hint = f"make one of {kinds}, or say what is in it: pystack image make debian --include PACKAGE -t {text}"
        raise InputError(f'"{text}" is neither a kind of base nor the name of an image that a base stands for', hint=hint)
    return check(base.kind, base.include, (text,))


def check(kind: str, include: Sequence[str], tags: Sequence[str]) -> Wanted:
    """`kind`: one of `KINDS`. `include`: well-known images (`recipes`) and Debian packages, with commas between; for
    ``host`` paths. `tags`: as written; without one it is ``localhost/NAME:latest``, of what it includes or of its kind. If
    `include` is empty and the tags stand for a well-known image (``redis:alpine``), that is included. Raises InputError."""
    if kind not in KINDS:
        raise InputError(f'"{kind}" is not a kind of base', hint=f"make one of {', '.join(KINDS)}")
    names = [parse_named(tag) for tag in tags]
    for name in names:
        if name.digest is not None:
            raise InputError(f'the tag "{name.familiar}" names a digest', hint="write NAME:TAG")
    if kind == "alpine":
        alpine.refuse_packages(include)
    if kind == "busybox" and include:
        raise InputError("busybox cannot have packages included", hint="make debian with --include")
    included = [name.strip() for text in include for name in text.split(",") if name.strip()]
    if kind == "debian" and not included:
        implied = {base.include for name in names if (base := base_for(name)) is not None and base.kind == "debian"}
        if len(implied) > 1:
            raise InputError("the tags stand for different images", hint="say with --include what is to be in it")
        included = [name for names in implied for name in names]
    found = {name: recipe_of(name) if kind == "debian" else None for name in included}
    recipes = tuple({recipe.name: recipe for recipe in found.values() if recipe is not None}.values())
    packages = tuple(name for name, recipe in found.items() if recipe is None)
    if not names:
        names = [parse_named(f"localhost/{recipes[0].name if recipes else kind}:latest")]
    return Wanted(kind, packages, recipes, tuple(dict.fromkeys(names)))


@frozen
class _Step:
    """How a layer is made, when all that it needs was fetched or asked. `identity`: changes when what `fill` makes does; ""
    where it is not looked for whether it was made before."""

    fill: Fill
    identity: str = ""


async def _prepare(wanted: Wanted, cache: str, progress: Progress, root: str) -> list[_Step]:
    """Lowest first."""
    apt = Apt(os.path.join(cache, "apt"), progress)
    if wanted.kind == "debian":
        like_alpine = any("alpine" in name.tag for name in wanted.tags)
        debian = Debian(apt, wanted.packages, wanted.recipes, like_alpine=like_alpine)
        await debian.look()
        return [_Step(layer.fill, layer.identity()) for layer in debian.layers()]
    if wanted.kind == "busybox":
        program = await busybox.find(apt)
        return [_Step(lambda tree, _: busybox.fill(tree, program))]
    if wanted.kind == "alpine":
        wheel = await alpine.find(cache, progress)
        return [_Step(lambda tree, tell: alpine.fill(tree, wheel, tell), os.path.basename(wheel))]
    machine.sources(root, wanted.packages)
    return [_Step(lambda tree, tell: machine.fill(tree, root, wanted.packages, tell))]


def _config(wanted: Wanted, variables: Mapping[str, str]) -> dict[str, Any]:
    """The first recipe says how it starts; variables, ports and volumes are of all."""
    environment = {"PATH": PATH, **variables}
    config: dict[str, Any] = dict(_CONFIGS[wanted.kind])
    for number, recipe in enumerate(wanted.recipes):
        environment |= recipe.environment
        for key, value in recipe.config.items():
            if isinstance(value, Mapping):
                config[key] = {**config.get(key, {}), **value}
            elif number == 0:
                config[key] = value
    config["Env"] = [f"{name}={value}" for name, value in environment.items()]
    return config


@entity
class _Teller:
    """Progress out of a thread; it also ends the thread's work when the task is cancelled."""

    progress: Progress

    def check(self) -> None:
        trio.from_thread.check_cancelled()

    def __call__(self, sentence: str) -> None:
        trio.from_thread.check_cancelled()
        trio.from_thread.run_sync(self.progress, sentence)


@frozen
class _Made:
    """A layer, and the time of the newest file in it and below."""

    diff_id: Digest
    path: str
    newest_s: int


def _put(store: Store, wanted: Wanted, layers: Sequence[_Made], config: Mapping[str, Any]) -> StoredImage:
    created = datetime.fromtimestamp(layers[-1].newest_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    commands = [_BELOW] * (len(layers) - 1) + [wanted.command]
    history = [History(created=created, created_by=command) for command in commands]
    image = store.put(make_config(host_platform(), config, [layer.diff_id for layer in layers], history, created=created))
    for name in wanted.tags:
        store.name(name.full, image.id)
    return store.get(image.id) or image


def _layer(
    store: Store, lease: Lease, step: _Step, below: Sequence[_Made], most_s: int | None, tell: _Teller
) -> _Made:
    """Held by `lease`; made unless it was before and is there. `below`: lowest first."""
    parents = [layer.diff_id for layer in below]
    key = hashlib.sha256(f"base {_own_digest()} {most_s} {parents} {step.identity}".encode()).hexdigest()
    if step.identity and (known := store.cached(key)) is not None:
        made = json.loads(known)
        diff_id = digest(made["layer"])
        lease.hold(diff_id)
        if (layer := store.layer(diff_id, parents)) is not None:
            tell("it was made before of the same packages")
            return _Made(diff_id, layer.path, made["newest_s"])
    directory = store.tmp()
    try:
        path = os.path.join(directory, "fs")
        os.mkdir(path, 0o755)
        lowers = [layer.path for layer in reversed(below)]
        with Tree(path, most_s, tell.check, lowers, below[-1].newest_s if below else 0) as tree:
            step.fill(tree, tell)
            entries, newest_s = tree.finish(), tree.newest_s
        tell(f"packing {entries} files, {tree.bytes / 1e6:.0f} MB")
        with open(os.devnull, "wb") as nowhere:
            diff_id = digest(write_tree(path, nowhere).diff_id)
        lease.hold(diff_id)
        layer = store.adopt(path, diff_id, parents)
    finally:
        store.discard(directory)
    if step.identity:
        store.cache(key, json.dumps({"layer": diff_id, "newest_s": newest_s}).encode(), [diff_id])
    return _Made(diff_id, layer.path, newest_s)


def _own_digest() -> str:
    """Of this package's code and scripts: when they change, what they made before does not count."""
    hashed = hashlib.sha256()
    for directory, _, names in sorted(os.walk(os.path.dirname(__file__))):
        for name in sorted(name for name in names if name.endswith((".py", ".sh"))):
            with open(os.path.join(directory, name), "rb") as file:
                hashed.update(file.read())
    return hashed.hexdigest()
