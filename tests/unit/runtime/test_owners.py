"""The maps of binds whose ids depend on the owner of their source."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.site import MOST_ID, IdMap
from orchestrator.errors import InputError
from orchestrator.oci.terms import ANNOTATION_OWNERS, OWNER_BY_SOURCE, OWNER_SOURCE
from orchestrator.runtime.owners import Extent, asked_owners, owner_map

IDS = IdMap(1 << 20)
ANY_ID = st.one_of(st.integers(0, 70_000), st.integers(0, MOST_ID), st.integers((1 << 20) - 2, (1 << 20) + 65_537))


def process(uid: int = 0, gid: int = 0, *env: str) -> dict[str, Any]:
    return {"user": {"uid": uid, "gid": gid}, "env": list(env)}


def seen(lines: tuple[Extent, ...], disk: int) -> int | None:
    return next((outer + disk - first for first, outer, count in lines if first <= disk < first + count), None)


def test_the_owner_is_the_containers_user_and_root_is_nobody() -> None:
    made = owner_map(process(), IDS, OWNER_BY_SOURCE, 1000, 1001)
    assert made is not None
    assert made.name == "ids:1000=0,1001=0"
    root = IDS.outside(0)
    assert [seen(made.uids, disk) for disk in (1000, 0, 999, 70_000)] == [root, None, root + 999, (1 << 31) + 70_000]
    assert [seen(made.gids, disk) for disk in (1001, 0, 1000)] == [root, None, root + 1000]


@given(ANY_ID, ANY_ID, st.integers(1, MOST_ID), st.integers(1, MOST_ID))
def test_maps_are_one_to_one_and_lead_to_root_from_nowhere(uid: int, gid: int, owner: int, group: int) -> None:
    made = owner_map(process(uid, gid), IDS, OWNER_SOURCE, owner, group)
    assert made is not None
    for lines, inner, disk in ((made.uids, uid, owner), (made.gids, gid, group)):
        assert seen(lines, disk) == IDS.outside(inner)
        assert seen(lines, 0) is None
        for at in (0, 1):
            ranges = sorted((line[at], line[at] + line[2]) for line in lines)
            assert all(end <= begin for (_, end), (begin, _) in pairwise(ranges))
        assert all(count > 0 and first + count <= 1 << 32 and outer + count < 1 << 32 for first, outer, count in lines)
        assert len(lines) <= 8  # The kernel takes 340.


@pytest.mark.parametrize("uid", [0, 1, 999, 61_184, 65_534, 1 << 20, (1 << 20) + 65_535, (1 << 31) + 65_536])
def test_by_source_leaves_alone_what_is_not_a_persons(uid: int) -> None:
    assert owner_map(process(), IDS, OWNER_BY_SOURCE, uid, 1000) is None


def test_by_source_leaves_alone_an_image_that_becomes_a_user_by_itself() -> None:
    assert owner_map(process(0, 0, "PUID=1000"), IDS, OWNER_BY_SOURCE, 1000, 1000) is None
    assert owner_map(process(0, 0, "PUID=1000"), IDS, OWNER_SOURCE, 1000, 1000) is not None


def test_root_as_root_is_as_all_are_mapped() -> None:
    assert owner_map(process(), IDS, OWNER_SOURCE, 0, 0) is None
    assert owner_map(process(0, 5), IDS, OWNER_SOURCE, 0, 0) is not None


@pytest.mark.parametrize(
    ("text", "namespaces", "said"),
    [
        ("[]", ["user"], "is not an object of owners"),
        ("{", ["user"], "is not an object of owners"),
        ('{"/x": 1}', ["user"], "is not an object of owners"),
        ('{"/x": "root"}', ["user"], '"root" is no owner of a bind'),
        ('{"/x": "source"}', [], "owners of binds need a user namespace"),
    ],
)
def test_an_order_that_is_none_is_refused(text: str, namespaces: list[str], said: str) -> None:
    config = {"annotations": {ANNOTATION_OWNERS: text}, "linux": {"namespaces": [{"type": kind} for kind in namespaces]}}
    with pytest.raises(InputError) as caught:
        asked_owners(config)
    assert said in caught.value.message
    assert caught.value.place == f"annotations.{ANNOTATION_OWNERS}"
