"""Markers, the leak check, and fixtures that every kind of test may use."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from orchestrator.kernel import trees
from tests import leaks, machine, world

SOAK = os.environ.get("PYSTACK_SOAK") == "1"
MUST_WORK = os.environ.get("PYSTACK_KERNEL_MUST_WORK") == "1"


settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
"""How long it takes says nothing here: the machine may be at work on something else."""


@functools.cache
def _lacking(marker: str) -> str:
    if marker == "servers":
        return machine.what_the_server_tests_lack()
    return machine.what_the_kernel_tests_lack() or ("" if world.entered() else f"no world of our own: {_refused}")


_refused: OSError | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Before the first thread, and before the first test: the same beginning for every run, whatever started it.

    A shell that puts a command in the background has it ignore Ctrl-C, and so would everything that a test starts. pytest
    keeps the temporary files of its last runs in one place and clears up there while other runs do: ours are elsewhere.
    What pip installs is compiled; here, where somebody has PYTHONDONTWRITEBYTECODE set, each command would compile anew
    all that it imports, which takes longer than what it does.
    """
    global _refused
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        sys.dont_write_bytecode = False
    if not config.option.basetemp:
        config.option.basetemp = tempfile.mkdtemp(prefix="pst-run-", dir="/tmp")
        config.add_cleanup(functools.partial(_remove, config.option.basetemp))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    os.umask(0o022)
    try:
        world.enter()
    except OSError as exc:
        _refused = exc


def _remove(directory: str) -> None:
    """Some tests' trees are deeper than what `shutil.rmtree` can go."""
    trees.remove_tree(directory)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take minutes each are for `make soak`, whatever ``-m`` says."""
    soak = [item for item in items if item.get_closest_marker("soak") is not None]
    if soak and not SOAK:
        items[:] = [item for item in items if item not in soak]
        config.hook.pytest_deselected(items=soak)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test whose machine is not there is skipped with the reason; in CI, where it must be there, it fails."""
    for marker in ("kernel", "servers"):
        if item.get_closest_marker(marker) is not None and (reason := _lacking(marker)):
            if MUST_WORK:
                pytest.fail(f"{marker} tests must work here (PYSTACK_KERNEL_MUST_WORK=1): {reason}", pytrace=False)
            pytest.skip(f"{marker}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows the projects that it made, while they are still there."""
    report = yield
    if report.failed and call.when == "call":
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, machine.Pystack):
                report.sections.extend((title, text) for title, text in value.story() if text)
    return report


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Around every kernel test: nothing is there afterwards that was not there before, in the world of this run.

    The test's temporary files go to a directory of its own, which must be empty in the end.
    """
    if request.node.get_closest_marker("kernel") is None:
        yield
        return
    scratch = Path(tempfile.mkdtemp(prefix="pst-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = leaks.take([scratch])
    yield
    found = leaks.settle(before, [scratch])
    shutil.rmtree(scratch, ignore_errors=True)
    if found:
        pytest.fail("left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture(scope="session")
def busybox_rootfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for ``image: rootfs:DIR``. Shared: tests must not write into it, or others depend on their order."""
    if not machine.BUSYBOX.exists():
        pytest.skip("no static busybox (.ci/servers installs it)")
    root = machine.make_busybox_rootfs(tmp_path_factory.mktemp("busybox") / "rootfs")
    before = set(root.rglob("*"))
    yield root
    if written := set(root.rglob("*")) - before:
        pytest.fail(f"written into the root file system of all tests: {sorted(map(str, written))}", pytrace=False)


@pytest.fixture
def pystack(leaves_nothing_behind: None) -> Iterator[machine.Pystack]:
    """The command line with directories of its own; every project of it is taken down, and nothing may stay."""
    root = Path(tempfile.mkdtemp(prefix="pst-", dir="/tmp"))
    own = machine.Pystack(root)
    yield own
    complaints = own.close()
    kept = [path for path in leaks.files(own.run_dir) + leaks.files(own.data_dir) if not _is_cache(own, path)]
    shutil.rmtree(root, ignore_errors=True)
    if complaints or kept:
        pytest.fail("not taken down:\n  " + "\n  ".join([*complaints, *kept]), pytrace=False)


def _is_cache(own: machine.Pystack, path: str) -> bool:
    """Files of the data directory that outlive projects by design: image layers, and the lock for handing out ids."""
    data = str(own.data_dir)
    return path.startswith((f"{data}/images/", f"{data}/cache/")) or path == f"{data}/lock"
