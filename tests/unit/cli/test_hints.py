"""What hints tell to type is what there is."""

from __future__ import annotations

import re

from orchestrator.cli.table import VERBS
from orchestrator.cli.table.shapes import Group
from tests.machine import ROOT

TOLD = re.compile(r"`pystack ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")


def exists(name: str, word: str) -> bool:
    verb = VERBS.get(name)
    return verb is not None and (not word or not isinstance(verb, Group) or word in verb.verbs)


def test_each_verb_that_a_message_names_is_a_verb() -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "orchestrator").rglob("*.py")))
    told = {(match[1], match[2] or "") for match in TOLD.finditer(source)}
    assert ("image", "ls") in told
    assert [" ".join(words) for words in sorted(told) if not exists(*words)] == []
