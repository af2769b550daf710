"""The verbs of faults on purpose (docs/chaos.md), as values; see `contracts.control`."""

from __future__ import annotations

from orchestrator.model.chaos import Injection
from orchestrator.values import frozen


@frozen
class Inject:
    """Make a fault on purpose. It ends by itself after its time, by `Undo`, and by a `Down` of everything."""

    injection: Injection


@frozen
class Standing:
    """A fault on purpose. `text`: what it is. `begun_at`: epoch seconds. `left_s`: until it ends; None: until it is
    undone."""

    id: str
    injection: Injection
    text: str
    begun_at: float
    left_s: float | None = None


@frozen
class Injected:
    """Which faults stand: answered by Standing values, the oldest first."""


@frozen
class Undo:
    """End these faults; `everything`: all that stand. Answered by those that have ended."""

    faults: tuple[str, ...] = ()
    everything: bool = False
