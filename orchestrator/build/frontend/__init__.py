"""The front end: a Dockerfile's text becomes values (`parse`), its words are expanded (`expand`, `words`), and what a
target needs is found (`needed_stages`). Nothing here reads a file or a context."""

from __future__ import annotations

from orchestrator.build.frontend.arguments import (
    CONTROLS,
    PLATFORM,
    PROXIES,
    declared,
    global_arguments,
    platform_arguments,
    unused,
)
from orchestrator.build.frontend.directives import read_check
from orchestrator.build.frontend.lint import stage_findings, warn
from orchestrator.build.frontend.mistakes import excerpt, located, mistake
from orchestrator.build.frontend.mounts import expand_mount
from orchestrator.build.frontend.parse import parse
from orchestrator.build.frontend.stages import NeededStage, Origin, Source, needed_stages, source_of
from orchestrator.build.frontend.words import expand, expand_document, exposed, signal, undefined, words

__all__ = [
    "CONTROLS",
    "PLATFORM",
    "PROXIES",
    "NeededStage",
    "Origin",
    "Source",
    "declared",
    "excerpt",
    "expand",
    "expand_document",
    "expand_mount",
    "exposed",
    "global_arguments",
    "located",
    "mistake",
    "needed_stages",
    "parse",
    "platform_arguments",
    "read_check",
    "signal",
    "source_of",
    "stage_findings",
    "undefined",
    "unused",
    "warn",
    "words",
]
