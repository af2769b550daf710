"""Progress where there is no terminal, or none is wanted: a line an event, or nothing at all."""

from __future__ import annotations

import sys

from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.failure import FailureReport, describe
from orchestrator.cli.render.steps import step_of
from orchestrator.cli.render.transfer import Parts, moved_text, transfer_of
from orchestrator.cli.render.words import probe_text, words_of
from orchestrator.contracts.events import Event, EventKind

_SILENT = {EventKind.OPERATION_STARTED, EventKind.OPERATION_FINISHED}


def event_text(event: Event) -> str:
    """The event as a sentence: its own text, or what its kind says."""
    if event.kind is EventKind.HEALTH_PROBED and not event.text:
        return "probe succeeded" if event.detail.get("ok") else probe_text(event.detail)
    if event.kind is EventKind.SERVICE_WAITING and not event.text:
        return f"waiting for {event.detail.get('on')} ({event.detail.get('condition')})"
    if event.kind is EventKind.SERVICE_BLOCKED:
        return f"{event.service} {words_of(event)}"  # Its cause has told its own story.
    return event.text or event.kind.value.replace(".", " ")


def sentence(event: Event) -> str:
    """The event's text with its service, or the image, before it, where the text does not name it."""
    text = event_text(event)
    about = event.service if event.service is not None else str(event.detail.get("image") or "")
    return text if about in text else f"{about}: {text}"


class PlainProgress:
    """One line an event, on stderr, at once; in Docker Compose's words where it has them. A probe that succeeds is no
    news, nor is one that fails as the last one did while a service is still starting."""

    interval_s: float | None = None

    def __init__(self) -> None:
        self._warming: dict[str | None, str] = {}
        self._images: dict[str, Parts] = {}

    def event(self, event: Event, raw: object) -> None:
        if event.kind in _SILENT or (event.kind is EventKind.HEALTH_PROBED and self._is_old(event)):
            return
        if event.kind is EventKind.IMAGE_PROGRESS:
            self._of_image(event)
            return
        if event.kind is EventKind.HOOK_OUTPUT:
            for line in event.text.splitlines():
                self.note(f"{event.container} -> | {line}")
            return
        if event.kind in (EventKind.IMAGE_OBTAINED, EventKind.IMAGE_FAILED):
            self._images.pop(str(event.detail.get("image")), None)
        prefix = "warning: " if event.kind is EventKind.WARNING else ""
        self.note(step_of(event) or f"{prefix}{sentence(event)}")

    def _of_image(self, event: Event) -> None:
        """A line when something else is done with a part of it, and a build step's lines."""
        image, news = str(event.detail.get("image")), transfer_of(event)
        changed = self._images.setdefault(image, Parts()).take(news, event.at)
        if line := moved_text(news, changed):
            self.note(f"{image}: {line}")

    def _is_old(self, event: Event) -> bool:
        if event.detail.get("ok"):
            self._warming.pop(event.container or event.service, None)
            return True
        if event.detail.get("failures"):
            return False  # It counts: the next ones lead to "unhealthy".
        output = str(event.detail.get("output"))
        known = self._warming.get(event.container or event.service)
        self._warming[event.container or event.service] = output
        return known == output

    def tick(self) -> None:
        """Nothing moves by itself."""

    def make_room(self) -> None:
        """Lines do not get into each other's way."""

    def note(self, text: str) -> None:
        print(escape_line(text), file=sys.stderr, flush=True)

    def aside(self, text: str, raw: object) -> None:
        self.note(text)

    def failure(self, report: FailureReport) -> None:
        if lines := describe(report):
            print("\n".join(lines), file=sys.stderr, flush=True)

    def summary(self, text: str, data: object) -> None:
        self.note(text)

    def close(self) -> None:
        """Nothing is open."""


class SilentProgress:
    """Shows nothing at all."""

    interval_s: float | None = None

    def event(self, event: Event, raw: object) -> None:
        """Not wanted; and so are all the others."""

    def tick(self) -> None: ...

    def make_room(self) -> None: ...

    def note(self, text: str) -> None: ...

    def aside(self, text: str, raw: object) -> None: ...

    def failure(self, report: FailureReport) -> None: ...

    def summary(self, text: str, data: object) -> None: ...

    def close(self) -> None: ...


class QuietProgress(SilentProgress):
    """Only warnings and failures: what the user has to know."""

    def event(self, event: Event, raw: object) -> None:
        if event.kind is EventKind.WARNING:
            PlainProgress().event(event, raw)

    def failure(self, report: FailureReport) -> None:
        PlainProgress().failure(report)
