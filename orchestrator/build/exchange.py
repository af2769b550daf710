"""``cache_from`` and ``cache_to`` of ``type=local``: a directory that carries steps from one store to another.

    DIR/steps/KEY.json     {"layer": diffID, "created": when}
    DIR/layers/HEX.tar.gz  the layer

What comes from there is anybody's: a layer counts only if what it unpacks to has its diffID. Other types (a registry) are
told and passed over.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

from orchestrator.errors import HostError, OperationError
from orchestrator.images.spec.digest import Digest, digest
from orchestrator.images.store.values import Layer
from orchestrator.images.unpack.packing import write_tree
from orchestrator.kernel.atomic import replace_file
from orchestrator.values import frozen

_MOST_STEP_BYTES = 4096
_LEVEL = 3
_HEX = frozenset("0123456789abcdef")


@frozen
class Step:
    diff_id: Digest
    created: str
    archive: str


@frozen
class Exchange:
    """`sources`: directories to look in, in order. `targets`: those to write. `passed_over`: what is of another type, in
    sentences."""

    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    def find(self, key: str) -> Step | None:
        """What is known of a step; whatever is damaged is not. Blocking."""
        for directory in self.sources:
            with suppress(OSError, ValueError, KeyError, TypeError):
                with open(os.path.join(directory, "steps", f"{key}.json"), "rb") as file:
                    found = json.loads(file.read(_MOST_STEP_BYTES))
                diff_id = digest(str(found["layer"]))
                return Step(diff_id, str(found["created"]), os.path.join(directory, "layers", _name(diff_id)))
        return None

    def write(self, steps: Mapping[str, tuple[Layer, str]]) -> None:
        """All `steps`, by their keys, with when they were made. Blocking. Raises HostError, OperationError."""
        for directory in self.targets:
            try:
                for name in ("steps", "layers"):
                    os.makedirs(os.path.join(directory, name), exist_ok=True)
                for key, (layer, created) in steps.items():
                    _write_layer(os.path.join(directory, "layers", _name(layer.diff_id)), layer)
                    content = json.dumps({"layer": layer.diff_id, "created": created}).encode()
                    replace_file(os.path.join(directory, "steps", f"{key}.json"), content, durable=False, mode=0o644)
            except OSError as exc:
                raise HostError(f"cannot write the cache {directory}: {exc.strerror}") from exc


def exchange(cache_from: Iterable[str], cache_to: Iterable[str], base: str) -> Exchange:
    """`base`: where relative directories start. Raises OperationError for a local one without a directory."""
    passed_over: list[str] = []
    found: dict[str, list[str]] = {"src": [], "dest": []}
    for name, key, entries in (("cache_from", "src", cache_from), ("cache_to", "dest", cache_to)):
        for text in entries:
            pairs = (part.partition("=") for part in text.split(","))
            options = {option: value for option, _, value in pairs}
            if options.get("type") != "local":
                passed_over.append(f"build.{name}: {text} is not used: of the types of caches there is only local")
            elif not options.get(key):
                raise OperationError(f"build.{name}: {text} names no directory", hint=f"write type=local,{key}=DIR")
            else:
                found[key].append(os.path.join(base, options[key]))
    return Exchange(tuple(found["src"]), tuple(found["dest"]), tuple(passed_over))


def _write_layer(path: str, layer: Layer) -> None:
    if os.path.exists(path):
        return
    temporary = f"{path}.{os.urandom(4).hex()}"
    try:
        with (
            open(temporary, "wb") as file,
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as out,
        ):
            write_tree(layer.path, out)  # type: ignore[arg-type]
        os.rename(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _name(diff_id: Digest) -> str:
    name = diff_id.partition(":")[2]
    assert _HEX.issuperset(name), "digests are checked"
    return f"{name}.tar.gz"
