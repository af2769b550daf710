"""``RUN --mount=``."""

from __future__ import annotations

import pytest

from orchestrator.build.frontend.mounts import expand_mount, read_mount
from orchestrator.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/a", {"kind": "bind", "target": "/a", "read_only": True}),
        ("type=bind,from=build,src=/s,dst=/a,rw", {"from_": "build", "source": "/s", "target": "/a", "read_only": False}),
        ("type=cache,destination=/c", {"kind": "cache", "target": "/c", "read_only": False, "options": {}}),
        (
            "type=cache,id=x,target=/c,sharing=LOCKED,mode=0755,uid=7,gid=8,ro",
            {"id": "x", "read_only": True, "options": {"mode": "0755", "uid": "7", "gid": "8", "sharing": "locked"}},
        ),
        ("type=tmpfs,target=/t,size=64m", {"kind": "tmpfs", "options": {"size": str(64 << 20)}, "read_only": False}),
        ("type=secret,id=s,env=TOKEN,required", {"id": "s", "target": "", "options": {"env": "TOKEN"}, "required": True}),
        ("type=secret,id=s,required=false,mode=0400", {"required": False, "options": {"mode": "0400"}}),
        ("type=ssh", {"kind": "ssh", "id": "", "target": ""}),
        ('type=bind,"target=/a,b"', {"target": "/a,b"}),
    ],
)
def test_a_mount_is_read(text: str, expected: dict[str, object]) -> None:
    found = read_mount(text)
    assert {name: getattr(found, name) for name in expected} == expected


def test_variables_are_put_in_when_they_are_known() -> None:
    found = read_mount("type=cache,target=$HOME/c,id=${A:-b},from=base")
    assert found.from_ == "base"
    expanded = expand_mount(found, {"HOME": "/root"})
    assert (expanded.kind, expanded.target, expanded.id, expanded.from_) == ("cache", "/root/c", "b", "base")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("type=bnd,target=/a", 'RUN --mount: "bnd" is no type (did you mean "bind"?)'),
        ("target=/a,sorce=b", 'RUN --mount has no option "sorce=b" (did you mean "source"?)'),
        ("type=cache", "RUN --mount=type=cache has no target"),
        ("type=secret", "RUN --mount=type=secret says neither id nor target"),
        ("type=secret,id=a,src=b", "RUN --mount=type=secret,id=a,src=b has an id and a source"),
        ("type=bind,target=/a,mode=1", "RUN --mount: a mount of type bind has no option mode"),
        ("type=tmpfs,target=/a,sharing=shared", "RUN --mount: a mount of type tmpfs has no option sharing"),
        (
            "type=cache,target=/a,sharing=lock",
            'RUN --mount: sharing "lock" is none of shared, private, locked (did you mean "locked"?)',
        ),
        ("type=cache,target=/a,mode=9", 'RUN --mount: mode "9" is no octal mode'),
        ("type=cache,target=/a,uid=-1", 'RUN --mount: uid "-1" is no number of a user or group'),
        ("type=cache,target=/a,gid=4294967295", 'RUN --mount: gid "4294967295" is no number of a user or group'),
        ("target=/a,ro=maybe", 'RUN --mount: readonly is true or false, not "maybe"'),
        ("target", "RUN --mount: target needs a value: target=VALUE"),
        ("from=$X,target=/a", "RUN --mount=from=$X cannot have a variable"),
    ],
)  # fmt: skip
def test_a_mount_that_is_none_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        read_mount(text)
    assert caught.value.message == sentence


def test_a_variable_can_make_a_mount_that_is_none() -> None:
    with pytest.raises(InputError, match='"bad" is no type'):
        expand_mount(read_mount("type=$T,target=/a"), {"T": "bad"})
