"""``--chmod`` as chmod(1) has it, ``--chown`` as Docker has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.build.modes import parse_mode, parse_owner
from orchestrator.errors import InputError

PASSWD = b"root:x:0:0::/:\nweb:x:7:8::/:\n"
GROUP = b"root:x:0:\nwww:x:9:\n"


@pytest.mark.parametrize(
    "text", ["755", "0", "4711", "u=rwX,go=rX", "+x", "a-w", "u+s,g+s,+t", "go=", "u=rwx,g+w-x", "ug=rw"]
)
@pytest.mark.parametrize("before", [0o644, 0o700, 0o000, 0o1777, 0o6755])
@pytest.mark.parametrize("directory", [False, True])
def test_a_mode_is_what_chmod_makes_of_it(text: str, before: int, directory: bool, tmp_path: Path) -> None:
    if directory and text.isdigit():
        before &= 0o1777  # A number is all of it; only GNU keeps a directory's set-id bits then.
    path = tmp_path / "it"
    if directory:
        path.mkdir()
    else:
        path.touch()
    path.chmod(before)
    subprocess.run(["sh", "-c", 'umask 0; exec chmod "$0" "$1"', text, path], check=True)
    wanted = path.stat().st_mode & 0o7777
    path.chmod(0o700)
    assert oct(parse_mode(text)(before, directory)) == oct(wanted)


@pytest.mark.parametrize("text", ["", "9", "888", "u", "rwx", "u=q", "777777", ",", "u+r,", "x=1"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no mode"):
        parse_mode(text)


@pytest.mark.parametrize(
    ("text", "owner"),
    [("5", (5, 5)), ("5:6", (5, 6)), ("web", (7, 8)), ("web:www", (7, 9)), ("web:3", (7, 3)), ("5:www", (5, 9))],
)
def test_an_owner_is_looked_up_in_the_images_own_files(text: str, owner: tuple[int, int]) -> None:
    assert parse_owner(text, PASSWD, GROUP) == owner


@pytest.mark.parametrize("text", ["ghost", "web:ghost", "5:", "99999999999"])
def test_an_owner_that_is_not_there_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--chown="):
        parse_owner(text, PASSWD, GROUP)
