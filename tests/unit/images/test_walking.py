"""Files of a tree whose size says nothing: what they have is what is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.images.unpack.walking import Walk


def walked(root: str, top: str) -> tuple[list[tuple[int, bytes]], list[str]]:
    with Walk(root) as walk:
        found = [(entry.size, data.read(-1) if data else b"") for entry, data in walk.entries(top.encode(), b"x")]
        return found, walk.left_out


def test_a_file_of_the_kernel_has_what_is_read_of_it_and_not_the_size_that_it_says() -> None:
    for path in ("/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"):
        content = Path(path).read_bytes()
        assert os.stat(path).st_size != len(content)
        assert walked("/", path[1:]) == ([(len(content), content)], [])


def test_what_says_no_size_and_has_no_end_is_left_out() -> None:
    found, left_out = walked("/proc", f"{os.getpid()}/pagemap")
    assert not found
    assert "does not say its size, and has more than 64 MiB" in left_out[0]


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert walked(str(tmp_path), "empty") == ([(0, b"")], [])


def test_what_is_cut_before_it_is_read_is_no_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x" * 100_000)
    real, cuts = os.lseek, iter([5_000])

    def lseek(fd: int, position: int, whence: int) -> int:
        if whence == os.SEEK_DATA and (size := next(cuts, None)) is not None:
            os.truncate(file, size)
            os.truncate(file, size - 1000)
        return real(fd, position, whence)

    monkeypatch.setattr(os, "lseek", lseek)
    assert walked(str(tmp_path), "log") == ([(4000, b"x" * 4000)], [])
