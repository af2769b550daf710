"""Stored values of older versions, as this one has them."""

from __future__ import annotations

from orchestrator.kernel.sealed import VERSION, Data


def upgraded(kind: str, data: Data, version: int, *context: Data) -> Data:
    """`data` of a `version` up to `VERSION` as this one has it (`state.upgrades`, which is imported only then)."""
    if version >= VERSION:
        return data
    from orchestrator.state.upgrades import upgrade

    return upgrade(kind, data, version, *context)
