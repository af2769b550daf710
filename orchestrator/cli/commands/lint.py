"""``pystack lint``: advice about the compose files, beyond what is an error."""

from __future__ import annotations

import json

from orchestrator import __version__
from orchestrator.cli.settings import Settings
from orchestrator.errors import EXIT_FAILED, EXIT_USAGE


def lint(settings: Settings, services: tuple[str, ...], shape: str) -> int:
    """Look for mistakes and risks in the compose files: a command cut at &&, a secret in the environment, a port open to
    all, a health check nobody waits for... docs/compose.md explains each rule.

    Ends with 0 when there is nothing but notes, with 1 when there is a warning, with 2 when the files have errors.
    """
    from orchestrator.compose.advice.lint_report import as_json, as_sarif, level
    from orchestrator.compose.queries import lint as find

    findings = find(settings.request(services))
    if shape == "json":
        print(json.dumps(as_json(findings), indent=2))
    elif shape == "sarif":
        print(json.dumps(as_sarif(findings, __version__), indent=2))
    else:
        for item in findings:
            print(f"{level(item.code)}{f' {item.code}' if item.code else ''}: {item.text()}")
        if not findings:
            print("no advice: the files are fine")
    levels = {level(item.code) for item in findings}
    return EXIT_USAGE if "error" in levels else EXIT_FAILED if "warning" in levels else 0
