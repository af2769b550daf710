"""The client's side of the control protocol (docs/control-protocol.md), and how a supervisor is started or replaced.

Standard library only, and little of it: every verb pays for these imports. A `Client` is one connection and carries one
request at a time. Events and results are JSON as it came; errors are raised as the PystackErrors they were on the other
side.
"""

from __future__ import annotations

from orchestrator.client.connection import Client, Patience
from orchestrator.client.messages import EventMessage, ResultMessage, SupervisorGone, Unanswered
from orchestrator.client.starting import connect, ensure_supervisor

__all__ = [
    "Client",
    "EventMessage",
    "Patience",
    "ResultMessage",
    "SupervisorGone",
    "Unanswered",
    "connect",
    "ensure_supervisor",
]
