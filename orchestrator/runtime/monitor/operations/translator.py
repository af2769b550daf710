"""A program of steps becomes the packet that the starter is sent."""

from __future__ import annotations

import marshal

from orchestrator.runtime.monitor.operations import inner, outer
from orchestrator.runtime.monitor.operations.language import (
    BEFORE,
    HEAD,
    MOST_BYTES,
    PASSES_GATE,
    PROCS,
    STATUS,
    NotSaid,
    Operations,
    Shape,
    Slot,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_MOST_KEPT = 512
_PLAIN_MARSHAL = 2
"""Without references: what it makes of equal values is equal."""

_STEPS: dict[str, Callable[..., None]] = {
    "default_limits": outer.default_limits,
    "rlimit": outer.rlimit,
    "oom_score": outer.oom_score,
    "overlay": outer.overlay,
    "devices": outer.devices,
    "root_devices": outer.root_devices,
    "to_host": outer.to_host,
    "to_home": outer.to_home,
    "ids": outer.ids,
    "bind": outer.bind,
    "bind_below": outer.bind_below,
    "top_attributes": outer.top_attributes,
    "propagate": outer.propagate,
    "enter": outer.enter,
    "enter_some": outer.enter_some,
    "join": outer.join,
    "join_some": outer.join_some,
    "joined": inner.joined,
    "take_root": inner.take_root,
    "attach": inner.attach,
    "filesystem": inner.filesystem,
    "files_read_only": inner.files_read_only,
    "files": inner.files,
    "owned_files": inner.owned_files,
    "sysctl": inner.sysctl,
    "mask": inner.mask,
    "read_only": inner.read_only,
    "make_read_only": inner.make_read_only,
    "root_read_only": inner.root_read_only,
    "hostname": inner.hostname,
    "pivot": inner.pivot,
    "session": inner.session,
    "stdio": inner.stdio,
    "working_directory": inner.change_directory,
    "change_directory": inner.change_directory,
    "bounding": inner.bounding,
    "identity": inner.identity,
    "capabilities": inner.capabilities,
    "no_new_privileges": inner.no_new_privileges,
    "seccomp": inner.seccomp,
    "seccomp_flags": inner.seccomp_flags,
    "execute": inner.execute,
}
_EACH_ITS_OWN = frozenset(
    {"default_limits", "overlay", "ids", "bind", "bind_below", "files", "owned_files", "hostname", "execute"}
)
"""Of these nothing is kept: they differ from container to container, or say something about a later step."""




class Translator:
    """Keeps what it has said of a step: most steps are the same for all containers of a project."""

    def __init__(self) -> None:
        self._kept: dict[bytes, bytes] = {}

    def packet(
        self, number: int, program: Sequence[list[Any]], status: int, named: Mapping[str, int], procs: Sequence[int]
    ) -> tuple[bytes, list[int]]:
        """What the starter is sent for the start `number`: packet and descriptors. Raises NotSaid."""
        shape = Shape(named, len(procs), program)
        about = shape.key
        parts = [b""]
        if "before" in shape.named:
            parts.append(_waiting())
        for step in program:
            if step[0] in _EACH_ITS_OWN:
                parts.append(_said(shape, step))
                continue
            key = marshal.dumps([about, step], _PLAIN_MARSHAL)
            if (part := self._kept.get(key)) is None:
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                part = self._kept[key] = _said(shape, step)
            parts.append(part)
        fds = [status, *(named[name] for name in shape.named), *procs]
        slots = bytes([STATUS, *shape.named.values(), *range(PROCS, PROCS + len(procs))])
        parts[0] = HEAD.pack(number, len(fds), slots)
        packet = b"".join(parts)
        if len(packet) > MOST_BYTES:
            raise NotSaid
        return packet, fds


def _said(shape: Shape, step: Sequence[Any]) -> bytes:
    if (say := _STEPS.get(step[0])) is None:
        raise NotSaid
    do = Operations()
    say(do, shape, *step[1:])
    return bytes(do.data)


def _waiting() -> bytes:
    do = Operations()
    do.call("read", Slot(BEFORE), bytes(8), 1, result=PASSES_GATE)
    return bytes(do.data)
