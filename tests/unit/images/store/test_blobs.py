"""Blobs: verified, resumed, fetched once."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from orchestrator.errors import HostError, OperationError
from orchestrator.images.spec.digest import Digest, digest_of
from orchestrator.images.store.store import Store

CONTENT = b"content of a layer" * 1000
DIGEST = digest_of(CONTENT)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "images"))


def test_nothing_is_made_until_something_is_added(store: Store, tmp_path: Path) -> None:
    assert store.blob(DIGEST) is None
    assert store.images() == []
    assert dict(store.names()) == {}
    assert store.find("redis") is None
    assert store.collect(in_use=(), unnamed=True, unused=True).bytes == 0
    assert os.listdir(tmp_path) == []


def test_a_blob_is_private_and_read_only(store: Store, tmp_path: Path) -> None:
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        assert (ingest.present, ingest.offset) == (False, 0)
        ingest.write(CONTENT)
        path = ingest.commit()
    assert path == store.blob(DIGEST) == f"{tmp_path}/images/blobs/sha256/{DIGEST[7:]}"
    assert os.stat(path).st_mode & 0o7777 == 0o400
    assert os.stat(tmp_path / "images").st_mode & 0o7777 == 0o700
    assert store.read_blob(DIGEST, len(CONTENT)) == CONTENT
    assert os.listdir(tmp_path / "images/ingest") == []


def test_a_blob_by_sha512_is_checked_by_sha512(store: Store) -> None:
    import hashlib

    of = Digest(f"sha512:{hashlib.sha512(CONTENT).hexdigest()}")
    with store.ingest(of, None) as ingest:
        ingest.write(CONTENT)
        ingest.commit()
    assert store.read_blob(of, len(CONTENT)) == CONTENT


def test_what_came_before_an_interruption_is_used_and_verified(store: Store) -> None:
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        ingest.write(CONTENT[:7000])
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        assert ingest.offset == 7000
        ingest.write(CONTENT[7000:])
        ingest.commit()
    assert store.read_blob(DIGEST, len(CONTENT)) == CONTENT


def test_a_resumed_blob_whose_beginning_is_damaged_is_refused_and_begun_anew(store: Store, tmp_path: Path) -> None:
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        ingest.write(CONTENT[:7000])
    with open(tmp_path / "images/ingest" / DIGEST.replace(":", "-"), "r+b") as file:
        file.write(b"X")
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        ingest.write(CONTENT[7000:])
        with pytest.raises(OperationError, match="is something else: what came has the digest sha256:"):
            ingest.commit()
    assert store.blob(DIGEST) is None
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        assert ingest.offset == 0


def test_more_than_was_announced_is_refused_and_less_is_kept(store: Store) -> None:
    with store.ingest(DIGEST, 10) as ingest, pytest.raises(OperationError, match="longer than the 10 bytes"):
        ingest.write(CONTENT)
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        ingest.write(CONTENT[:50])
        with pytest.raises(OperationError, match=f"came 50 bytes of {len(CONTENT)}"):
            ingest.commit()
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        assert ingest.offset == 50


def test_a_server_without_ranges_makes_it_begin_anew(store: Store) -> None:
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        ingest.write(CONTENT[:50])
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        ingest.restart()
        ingest.write(CONTENT)
        ingest.commit()
    assert store.read_blob(DIGEST, len(CONTENT)) == CONTENT


def test_an_ingest_that_got_nothing_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with store.ingest(DIGEST, len(CONTENT)):
        pass
    assert os.listdir(tmp_path / "images/ingest") == []


def test_who_waits_for_a_blob_that_another_fetches_finds_it_there(store: Store, tmp_path: Path) -> None:
    waiting, found = threading.Event(), []

    def second() -> None:
        with Store(str(tmp_path / "images")).ingest(DIGEST, len(CONTENT), on_wait=waiting.set) as ingest:
            found.append(ingest.present)

    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        ingest.write(CONTENT)
        ingest.commit()
    thread.join(30)
    assert found == [True]


def test_a_wait_ends_when_it_is_interrupted(store: Store, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel() -> None:
        raise Cancelled

    with store.ingest(DIGEST, None), pytest.raises(Cancelled):
        Store(str(tmp_path / "images")).ingest(DIGEST, None, on_wait=cancel).__enter__()


def test_a_full_disk_is_told_and_leaves_no_blob(store: Store) -> None:
    class Full:
        def write(self, _data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        ingest.write(CONTENT[:50])
        assert ingest._file is not None
        ingest._file.close()
        ingest._file = Full()  # type: ignore[assignment]
        with pytest.raises(HostError, match="the disk is full: cannot write") as caught:
            ingest.write(CONTENT[50:])
    assert "prune" in (caught.value.hint or "")
    assert store.blob(DIGEST) is None
    with store.ingest(DIGEST, len(CONTENT)) as ingest:
        assert ingest.offset == 50


def test_a_blob_that_rots_is_found_out_told_and_fetched_anew(store: Store) -> None:
    store.add_blob(CONTENT)
    path = store.blob(DIGEST)
    assert path is not None
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.write(b"X")
    with pytest.raises(OperationError, match="is damaged and was removed"):
        store.read_blob(DIGEST, len(CONTENT))
    assert [finding.file for finding in store.findings()] == [path]
    assert store.findings() == ()
    assert store.blob(DIGEST) is None
    store.add_blob(CONTENT)
    assert store.read_blob(DIGEST, len(CONTENT)) == CONTENT


def test_a_blob_is_read_only_up_to_the_size_that_is_asked_for(store: Store) -> None:
    store.add_blob(CONTENT)
    with pytest.raises(OperationError, match="has more than 5 bytes"):
        store.read_blob(DIGEST, 5)
    with pytest.raises(OperationError, match="is not there"):
        store.read_blob(digest_of(b"another"), 5)


def test_a_spool_becomes_a_blob_or_nothing(store: Store, tmp_path: Path) -> None:
    with store.spool() as spool:
        spool.write(CONTENT[:9])
    assert os.listdir(tmp_path / "images/tmp") == []
    for _ in range(2):
        with store.spool() as spool:
            spool.write(CONTENT[:9])
            spool.write(CONTENT[9:])
            assert spool.commit() == DIGEST
    assert spool.size == len(CONTENT)
    assert store.read_blob(DIGEST, len(CONTENT)) == CONTENT
    assert os.listdir(tmp_path / "images/tmp") == []
