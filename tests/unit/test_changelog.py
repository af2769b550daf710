"""The changelog is made of fragments, and a malformed fragment is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

CHANGES = Path(__file__).resolve().parents[2] / "changes"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("assemble", CHANGES / "assemble.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ASSEMBLE = load()


def test_fragments_are_ordered_by_kind_and_name() -> None:
    fragments = {"2-b.fixed.md": "B is\nfixed.\n", "9-a.added.md": "A is new.\n", "1-c.added.md": "C is new.\n"}
    assert ASSEMBLE.assemble(fragments, "") == (
        "# Changelog\n\n## Unreleased\n\n### Added\n\n- C is new.\n- A is new.\n\n### Fixed\n\n- B is fixed.\n"
    )


def test_what_was_released_is_kept() -> None:
    released = "## 0.1.0\n\n- First.\n"
    text = ASSEMBLE.assemble({"1-a.added.md": "New."}, released)
    assert text.endswith(released)
    assert ASSEMBLE.released_part(text) == released


@pytest.mark.parametrize("name", ["a.md", "a.news.md", "a.b.added.md"])
def test_a_fragment_of_unknown_kind_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ASSEMBLE.assemble({name: "Text."}, "")


def test_the_fragments_in_the_repository_can_be_assembled() -> None:
    fragments = {path.name: path.read_text() for path in CHANGES.glob("*.md") if path.name != "README.md"}
    assert ASSEMBLE.assemble(fragments, "").startswith("# Changelog\n")
