"""The host image's skeleton, from made-up hosts below a temporary directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from orchestrator.errors import HostError
from orchestrator.images import skeleton as skeletons
from orchestrator.images.skeleton import Entry, Kind, Skeleton, build, collect, fingerprint, intact

PASSWD = """\
root:hash-of-root:0:0:The Boss:/root:/bin/bash
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
ann:x:1000:1000:Ann Secret,Room 5:/home/ann:/bin/zsh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
+nisuser::::::
"""
GROUP = "root:x:0:\nwww-data:x:33:ann\nssl-cert:x:110:www-data,ann\nann:x:1000:\nnogroup:x:65534:\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a merged /usr, one certificate in /usr, one of its own, and secrets in all the wrong places."""
    root = tmp_path / "host"
    files = {
        "usr/bin/tool": "tool",
        "usr/share/ca/mozilla.crt": "public",
        "usr/share/zoneinfo/UTC": "utc",
        "etc/passwd": PASSWD,
        "etc/group": GROUP,
        "etc/shadow": "root:$6$secret",
        "etc/profile": "export TOKEN=secret",
        "etc/ld.so.cache": "cache",
        "etc/ld.so.conf": "include",
        "etc/services": "http 80/tcp",
        "etc/nsswitch.conf": "passwd: files sss",
        "etc/ssl/certs/own.pem": "own",
        "etc/ssl/certs/leaked-key.pem": "secret",
        "etc/ssl/private/key.pem": "secret",
        "var/lib/extra/company.pem": "company",
        "root/private/hidden.pem": "secret",
        "root/notes": "secret",
        "home/ann/mail": "secret",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(0o644)
    (root / "etc/shadow").chmod(0o600)
    (root / "etc/ssl/certs/leaked-key.pem").chmod(0o600)
    (root / "root").chmod(0o700)
    links = {
        "bin": "usr/bin",
        "lib64": "/usr/lib64",
        "etc/localtime": "/usr/share/zoneinfo/UTC",
        "etc/alternatives/tool": "/bin/tool",
        "etc/alternatives/gone": "/usr/bin/gone",
        "etc/ssl/certs/mozilla.pem": "../../../usr/share/ca/mozilla.crt",
        "etc/ssl/certs/abcd.0": "own.pem",
        "etc/ssl/certs/company.pem": "/var/lib/extra/company.pem",
        "etc/ssl/certs/hidden.pem": "/root/private/hidden.pem",
        "etc/ssl/certs/outside.pem": "/../../../../../../../../etc/hostname",
        "etc/ssl/certs/loop": ".",
    }
    (root / "etc/alternatives").mkdir()
    for path, text in links.items():
        os.symlink(text, root / path)
    (root / "usr/lib64").mkdir()
    os.mkfifo(root / "etc/ssl/certs/fifo.pem", 0o644)
    return root


def by_path(skeleton: Skeleton) -> dict[str, Entry]:
    return {entry.path: entry for entry in skeleton.entries}


def test_only_what_is_listed_and_readable_by_everybody_is_in_it(host: Path) -> None:
    skeleton = collect(str(host))
    paths = set(by_path(skeleton))
    assert {"etc/ld.so.cache", "etc/services", "etc/ssl/certs/own.pem"} <= paths
    hidden = {"etc/shadow", "etc/profile", "etc/ssl/private", "etc/ssl/certs/leaked-key.pem", "home/ann", "root/notes"}
    assert not hidden & paths
    assert not any(b"secret" in entry.content for entry in skeleton.entries)


def test_links_into_usr_stay_links_and_others_become_what_they_lead_to(host: Path) -> None:
    found = by_path(collect(str(host)))
    assert found["etc/localtime"].content == b"/usr/share/zoneinfo/UTC"
    assert found["etc/ssl/certs/mozilla.pem"].content == b"../../../usr/share/ca/mozilla.crt"
    assert found["etc/alternatives/tool"].content == b"/usr/bin/tool"
    assert found["etc/ssl/certs/abcd.0"] == Entry("etc/ssl/certs/abcd.0", Kind.LINK, 0o777, b"own.pem")
    assert found["etc/ssl/certs/company.pem"] == Entry("etc/ssl/certs/company.pem", Kind.FILE, 0o644, b"company")


def test_links_to_nowhere_to_secrets_and_out_of_the_root_are_left_out(host: Path) -> None:
    paths = set(by_path(collect(str(host))))
    assert "etc/alternatives/gone" not in paths
    assert "etc/ssl/certs/hidden.pem" not in paths
    assert "etc/ssl/certs/outside.pem" not in paths
    assert "etc/ssl/certs/fifo.pem" not in paths


def test_a_directory_link_that_loops_ends(host: Path) -> None:
    assert len(collect(str(host)).entries) < 200


def test_accounts_are_the_system_s_without_people_comments_and_hashes(host: Path) -> None:
    skeleton = collect(str(host))
    assert skeleton.file("etc/passwd").decode().splitlines() == [
        "root:x:0:0::/root:/bin/bash",
        "www-data:x:33:33::/var/www:/usr/sbin/nologin",
        "nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin",
    ]
    assert skeleton.file("etc/group").decode().splitlines() == [
        "root:x:0:",
        "www-data:x:33:",
        "ssl-cert:x:110:www-data",
        "nogroup:x:65534:",
    ]


def test_a_merged_usr_gives_links_and_an_old_layout_mounts(host: Path) -> None:
    merged = collect(str(host))
    assert merged.directories == ("usr",)
    assert by_path(merged)["bin"].content == b"usr/bin"
    assert by_path(merged)["lib64"].content == b"usr/lib64"
    (host / "bin").unlink()
    (host / "bin").mkdir()
    (host / "bin/tool").write_text("old")
    old = collect(str(host))
    assert old.directories == ("usr", "bin")
    assert by_path(old)["bin"].kind is Kind.DIRECTORY
    assert by_path(old)["etc/alternatives/tool"].content == b"/bin/tool"


def test_a_host_without_usr_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="/usr"):
        collect(str(tmp_path))
    with pytest.raises(HostError, match="cannot read"):
        collect(str(tmp_path / "none"))


def test_a_host_that_would_fill_the_disk_is_an_error(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skeletons, "MOST_BYTES", 16)
    with pytest.raises(HostError, match="larger than"):
        collect(str(host))


def test_the_identity_is_the_content_s(host: Path) -> None:
    first = collect(str(host)).identity
    assert collect(str(host)).identity == first
    (host / "home/ann/mail").write_text("changed")
    assert collect(str(host)).identity == first
    (host / "etc/services").write_text("http 81/tcp")
    assert collect(str(host)).identity != first


def test_the_fingerprint_notices_changes_of_what_is_listed(host: Path) -> None:
    before = fingerprint(str(host))
    (host / "home/ann/mail").write_text("changed")
    assert fingerprint(str(host)) == before
    (host / "etc/ssl/certs/new.pem").write_text("new")
    assert fingerprint(str(host)) != before


def test_what_is_built_is_intact_until_something_is_damaged(host: Path, tmp_path: Path) -> None:
    skeleton = collect(str(host))
    target = tmp_path / "built"
    target.mkdir()
    build(skeleton, str(target))
    assert intact(skeleton, str(target))
    assert stat.S_IMODE((target / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((target / "root").stat().st_mode) == 0o700
    assert (target / "var/run").readlink() == Path("../run")
    assert (target / "etc/nsswitch.conf").read_text().startswith("passwd: files\n")
    (target / "etc/services").write_text("")
    assert not intact(skeleton, str(target))
    assert not intact(skeleton, str(tmp_path / "none"))
