"""Users by hostile and by ordinary passwd files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.oci.users import MAX_ID, User, resolve_user

PASSWD = b"root:x:0:0:root:/root:/bin/sh\n1000:x:0:5::/zero:/bin/sh\nfive:x:5:5::/five:/bin/sh\n"
PASSWD += b"ann:x:1000:1001::/home/ann:/bin/sh\n"
GROUP = b"root:x:0:\nwheel:x:10:bob,ann\n20:x:30:\n"


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0, (0,), "/root")),
        ("ann", User(1000, 1001, (1001, 10), "/home/ann")),
        ("1000", User(1000, 1001, (1001, 10), "/home/ann")),
        ("five", User(5, 5, (5,), "/five")),
        ("1001", User(1001, 0, (0,), "/")),
        ("ann:wheel", User(1000, 10, (10,), "/home/ann")),
        ("ann:20", User(1000, 20, (20,), "/home/ann")),
        ("7:8", User(7, 8, (8,), "/")),
        (":wheel", User(0, 10, (10,), "/root")),
        ("ann:", User(1000, 1001, (1001, 10), "/home/ann")),
        (":", User(0, 0, (0,), "/root")),
    ],
)
def test_a_number_is_an_id_and_everything_else_a_name(text: str, user: User) -> None:
    assert resolve_user(text, PASSWD, GROUP) == user


@pytest.mark.parametrize("text", ["bob", "ann:none", "-1", "+5", "1_0", "٣", "2147483648", "ann:ann:ann"])
def test_what_is_no_user_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"there is no|no group"):
        resolve_user(text, PASSWD, GROUP)


def test_lines_that_do_not_fit_are_passed_over() -> None:
    hostile = b"\n:x:0:0:::\nann\nann:x:99999999999:1::/:\n#ann:x:1:1::/:\nann:x:-1:0::/:\n\xff\xfe:x:3:3::/:\n"
    hostile += b"ann:x:7:7::rel:\n"
    assert resolve_user("ann", hostile, b"g\ng:x:y:ann\n") == User(7, 7, (7,), "/")


@given(st.text(max_size=12), st.binary(max_size=200), st.binary(max_size=100))
def test_whatever_the_files_hold_ids_stay_in_bounds(text: str, passwd: bytes, group: bytes) -> None:
    try:
        user = resolve_user(text, passwd, group)
    except ValueError:
        return
    assert user.groups[0] == user.gid
    assert all(0 <= number <= MAX_ID for number in (user.uid, *user.groups))
