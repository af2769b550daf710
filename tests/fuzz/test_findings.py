"""What the fuzzer once found stays found: each case loads or is refused, in time. And a short run of the fuzzer itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.loader import FINDINGS, trouble, write
from tests.fuzz.mutate import mutate, seeds

CASES = 400


@pytest.mark.parametrize("name", sorted(path.name for path in FINDINGS.iterdir() if path.is_dir()))
def test_a_finding_of_the_fuzzer_does_not_come_back(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "case"
    shutil.copytree(FINDINGS / name, folder)
    what = (folder / "finding.txt").read_text()
    (folder / "finding.txt").unlink()
    found = trouble(folder)
    assert found is None, f"once {what.strip()}, now {found[0]}\n{found[1]}"


def test_mutated_stacks_load_or_are_refused(tmp_path: Path) -> None:
    pool = seeds()
    r = Random(20)
    for number in range(CASES):
        write(mutate(r, pool), tmp_path)
        found = trouble(tmp_path)
        assert found is None, f"case {number}: {found[0]}\n{found[1]}"
