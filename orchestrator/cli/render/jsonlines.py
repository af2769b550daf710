"""Progress for programs: a JSON object a line on stderr.

Events are as the control protocol has them (``{"kind": ..., "service": ...}``); besides there are ``{"note": TEXT}``,
``{"failure": {...}}``, at the end ``{"result": {...}}`` or ``{"error": {...}}``.
"""

from __future__ import annotations

import json
import sys

from orchestrator.cli.render.failure import FailureReport
from orchestrator.contracts.events import Event
from orchestrator.model.codec import to_json


class JsonProgress:
    interval_s: float | None = None

    def event(self, event: Event, raw: object) -> None:
        self._write(raw)

    def tick(self) -> None:
        """Nothing moves by itself."""

    def make_room(self) -> None:
        """Lines do not get into each other's way."""

    def note(self, text: str) -> None:
        self._write({"note": text})

    def aside(self, text: str, raw: object) -> None:
        self._write(raw)

    def failure(self, report: FailureReport) -> None:
        self._write({"failure": to_json(report)})

    def summary(self, text: str, data: object) -> None:
        self._write({"result": data, "text": text})

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, value: object) -> None:
        print(json.dumps(value), file=sys.stderr, flush=True)
