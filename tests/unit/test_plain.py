"""Opening a file of ours where something else stands."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestrator.kernel.plain import open_plain, opener

READ, WRITE, MAKE = os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT


@pytest.mark.parametrize("flags", [READ, WRITE, MAKE])
@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a symbolic link", "a directory"])
def test_what_is_no_plain_file_is_told_at_once(tmp_path: Path, kind: str, flags: int) -> None:
    path = tmp_path / "name"
    match kind:
        case "a FIFO":
            os.mkfifo(path)
        case "a socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        case "a symbolic link":
            path.symlink_to("/dev/null")
        case _:
            path.mkdir()
    with pytest.raises(OSError, match=f"it is {kind}, not a plain file") as caught:
        open_plain(str(path), flags)
    assert caught.value.filename == str(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_s_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "name"
    path.write_bytes(b"theirs")
    os.chown(path, 4242, 4242)
    with pytest.raises(OSError, match="it belongs to user 4242"), open(path, "rb", opener=opener):
        pass


def test_a_plain_file_is_opened_or_made_and_is_not_inherited(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_plain(str(tmp_path / "none"), READ)
    directory = os.open(tmp_path, os.O_RDONLY)
    fd = open_plain("new", MAKE, dir_fd=directory)
    os.write(fd, b"ours")
    assert not os.get_inheritable(fd)
    os.close(fd)
    os.close(directory)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    with open(tmp_path / "new", "rb", opener=opener) as file:
        assert file.read() == b"ours"
