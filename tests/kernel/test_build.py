"""Dockerfiles become images: real containers on bases of busybox."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.build_bench import bench

pytestmark = pytest.mark.kernel


async def test_a_run_makes_a_layer_of_what_it_wrote(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with bench(busybox_rootfs) as at:
        built = await at.build("FROM busybox\nRUN echo hello; mkdir /new; echo x > /new/file; rm /etc/group; chown 5:6 /new/file\n")
        assert built.output() == ["hello"]
        assert built.text("/new/file") == "x\n"
        assert not built.has("/etc/group")
        assert (built.stat("/new/file").st_uid, built.stat("/new/file").st_gid) == (5, 6)
        assert built.stat("/new").st_uid == 0
        assert built.top_layer() == ["etc", "etc/group", "new", "new/file"]


async def test_what_was_built_once_is_not_built_again(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    text = "FROM busybox\nCOPY a /a\nRUN cat /a > /b\nCOPY c /c\nRUN cat /c > /d\nENV X=1\n"
    async with bench(busybox_rootfs) as at:
        context = at.context({"a": "1", "c": "2"})
        first = await at.build(text, context)
        assert first.ran() == 4
        again = await at.build(text, context)
        assert again.ran() == 0
        assert again.image.id == first.image.id
        (context / "c").write_text("3")
        changed = await at.build(text, context)
        assert changed.ran() == 2
        assert (changed.text("/b"), changed.text("/d")) == ("1", "3")
