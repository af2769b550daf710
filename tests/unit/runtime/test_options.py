"""OCI mount options in the kernel's terms."""

from __future__ import annotations

import pytest

from orchestrator.errors import InputError
from orchestrator.kernel import constants as c
from orchestrator.runtime.options import MountOptions, parse_options


def test_flags_become_attributes_and_the_rest_is_the_file_systems() -> None:
    assert parse_options(["nosuid", "noexec", "mode=755", "size=64k", "newinstance"]) == MountOptions(
        set_=c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC,
        tree_set=c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC,
        data=(("mode", "755"), ("size", "64k"))
    )


def test_the_last_of_two_contradicting_options_wins() -> None:
    ro, rw = parse_options(["rw", "ro"]), parse_options(["ro", "rw"])
    assert (ro.set_, ro.clear) == (c.MOUNT_ATTR_RDONLY, 0)
    assert (rw.set_, rw.clear) == (0, c.MOUNT_ATTR_RDONLY)


def test_an_access_time_option_clears_the_whole_field() -> None:
    options = parse_options(["strictatime", "noatime"])
    assert options.set_ == c.MOUNT_ATTR_NOATIME
    assert options.clear & c.MOUNT_ATTR_STRICTATIME


def test_binds_idmaps_and_propagation() -> None:
    options = parse_options(["rbind", "rslave", "idmap", "rro", "rnosuid"])
    assert (options.bind, options.recursive, options.idmap) == (True, True, True)
    assert options.propagation == c.MS_SLAVE
    assert options.set_ == c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSUID
    assert parse_options(["bind"]).propagation == c.MS_PRIVATE


def test_an_option_is_of_the_mount_itself_and_with_an_r_of_all_below_it() -> None:
    options = parse_options(["rbind", "ro", "rnodev", "shared"])
    assert (options.set_, options.tree_set) == (c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NODEV, c.MOUNT_ATTR_NODEV)
    assert (options.propagation, options.propagates_below) == (c.MS_SHARED, False)
    alone = parse_options(["bind", "ro"])
    assert alone.tree_set == c.MOUNT_ATTR_RDONLY
    assert parse_options(["rbind", "rshared"]).propagates_below


def test_words_that_begin_with_r_by_themselves() -> None:
    options = parse_options(["relatime", "rw", "rbind"])
    assert options.clear & c.MOUNT_ATTR_RDONLY
    assert options.data == ()


def test_what_is_known_and_not_supported_is_said() -> None:
    with pytest.raises(InputError, match="tmpcopyup is not supported"):
        parse_options(["tmpcopyup"])
