from __future__ import annotations

from pathlib import Path

from orchestrator.compose.advice.reference import markdown
from orchestrator.compose.schema.attributes_service import SERVICE

PAGE = Path(__file__).parents[3] / "docs" / "compose.md"


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == markdown(), (
        "run: python -c \"from orchestrator.compose.advice.reference import write; write('docs/compose.md')\""
    )


def test_the_table_has_all_93_attributes_of_a_service() -> None:
    assert SERVICE.fields is not None
    assert len(SERVICE.fields) == 93
    assert all(row.doc for row in SERVICE.fields.values())
