"""docs/troubleshooting.md speaks of messages that there are."""

from __future__ import annotations

import re

from tests.machine import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()


def test_each_message_of_the_page_is_one_of_ours() -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "orchestrator").rglob("*.py")))
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    parts = [part.strip(" ;") for row in rows for quoted in re.findall("`([^`]+)`", row) for part in quoted.split("...")]
    assert len(rows) > 10
    assert [part for part in parts if part and part not in source] == []
