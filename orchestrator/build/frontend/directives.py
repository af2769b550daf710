"""Parser directives: the comments before everything else. ``escape`` is the library's, ``syntax`` names a front end that is
never fetched, and ``check`` says which warnings are wanted.

Source: https://docs.docker.com/reference/dockerfile/#parser-directives
"""

from __future__ import annotations

import re

from orchestrator.values import frozen

_DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(.+?)\s*", re.IGNORECASE)
EXPERIMENTAL = frozenset({"CopyIgnoredFile", "InvalidDefinitionDescription"})
"""Rules that warn only if they are asked for."""


@frozen
class Check:
    """``# check=skip=RULE,RULE;experimental=all;error=true``. `error`: a warning is a mistake."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def wants(self, rule: str) -> bool:
        if rule in EXPERIMENTAL:
            return bool({"all", rule} & self.experimental) and rule not in self.skip
        return not {"all", rule} & self.skip


def read_check(text: str) -> Check:
    """What ``# check=`` at the beginning of a Dockerfile says."""
    for line in text.removeprefix("\ufeff").split("\n"):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        if match[1].lower() == "check":
            return _check(match[2])
    return Check()


def skipped_here(comments: tuple[str, ...]) -> frozenset[str]:
    """Rules that the comments right above an instruction switch off for it: ``# check=skip=RULE // why``."""
    found: frozenset[str] = frozenset()
    for comment in comments:
        name, equals, value = comment.partition("=")
        if equals and name.strip().lower() == "check":
            found |= _check(value.partition("//")[0]).skip
    return found


def _check(value: str) -> Check:
    given = {"skip": "", "experimental": "", "error": ""}
    for part in value.split(";"):
        name, _, text = part.partition("=")
        given[name.strip().lower()] = text.strip()
    return Check(_rules(given["skip"]), _rules(given["experimental"]), given["error"].lower() in ("true", "1", "t"))


def _rules(text: str) -> frozenset[str]:
    return frozenset(rule.strip() for rule in text.split(",") if rule.strip())
