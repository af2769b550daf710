"""What `lint` found, for other programs: JSON, and SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0)."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.compose.advice.lint import BY_CODE
from orchestrator.compose.kinds.shapes import JSON
from orchestrator.compose.text.diagnostics import Diagnostic


def as_json(findings: Iterable[Diagnostic]) -> list[dict[str, JSON]]:
    """``pystack lint --format json``."""
    return [
        {
            "code": item.code,
            "level": level(item.code),
            "file": item.file,
            "line": item.line,
            "column": item.column,
            "path": item.path,
            "message": item.message,
            "hint": item.hint,
            "related": [str(related) for related in item.related],
        }
        for item in findings
    ]


def as_sarif(findings: Iterable[Diagnostic], version: str) -> dict[str, JSON]:
    """``pystack lint --format sarif``: a SARIF 2.1.0 log of one run."""
    rules = [
        {"id": rule.code, "name": rule.name, "shortDescription": {"text": rule.summary}, "help": {"text": rule.hint}}
        for rule in BY_CODE.values()
    ]
    results = [
        {
            "ruleId": item.code or "error",
            "level": level(item.code),
            "message": {"text": f"{item.path}: {item.message}" if item.path else item.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": item.file or "."},
                        "region": {"startLine": max(item.line, 1), "startColumn": max(item.column, 1)},
                    }
                }
            ],
            **_related_locations(item),
        }
        for item in findings
    ]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": "pystack", "version": version, "rules": rules}}, "results": results}],
    }


def _related_locations(item: Diagnostic) -> dict[str, JSON]:
    """SARIF's ``relatedLocations``: the further places of a finding."""
    out: list[JSON] = []
    for related in item.related:
        region: JSON = {"startLine": max(related.place.line, 1), "startColumn": max(related.place.column, 1)}
        where: JSON = {"artifactLocation": {"uri": related.place.file}, "region": region}
        out.append({"physicalLocation": where, "message": {"text": related.note}})
    return {"relatedLocations": out} if out else {}


def level(code: str) -> str:
    """SARIF's level of a rule; a finding without a code is an error."""
    rule = BY_CODE.get(code)
    return rule.level if rule is not None else "error"
