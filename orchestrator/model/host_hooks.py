"""``x-pystack.hooks`` of a stack: commands for the caller's own machine, before and after what a verb does."""

from __future__ import annotations

from orchestrator.values import frozen


@frozen
class HostHooks:
    """Each a tuple of texts for ``/bin/sh -c``, carried out in order, until one fails."""

    before_up: tuple[str, ...] = ()
    after_up: tuple[str, ...] = ()
    before_down: tuple[str, ...] = ()
