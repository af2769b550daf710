"""`pystack-oci` from outside: the operations of runtime.md, each "MUST generate an error" of it, and what stays behind."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.oci_lab import Lab, lab
from tests.machine import eventually

pytestmark = pytest.mark.kernel


@pytest.fixture
def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as top, lab(Path(top), busybox_rootfs) as opened:
        yield opened


def test_run_ends_as_the_program_does_and_leaves_nothing(here: Lab) -> None:
    code, out, _ = here.run(here.config("sh", "-c", "echo hello; exit 7"))
    assert (code, out) == (7, "hello\n")
    assert here.oci("list", "-q") == ""


def test_a_container_goes_from_created_to_running_to_stopped(here: Lab) -> None:
    here.create(here.config("sleep", "1000"))
    state = here.state()
    assert (state["id"], state["status"], state["bundle"]) == ("box", "created", str(here.bundle))
    assert state["ociVersion"] == "1.2.0"
    assert Path(f"/proc/{state['pid']}/cmdline").read_bytes().count(b"standalone") == 1
    here.oci("start", "box")
    assert here.status() == "running"
    assert Path(f"/proc/{state['pid']}/cmdline").read_bytes() == b"sleep\x001000\x00"
    here.oci("kill", "box", "KILL")
    eventually(lambda: here.status() == "stopped")
    here.oci("delete", "box")
    assert here.ran("state", "box")[0] == 1


def test_nothing_of_the_program_runs_before_start(here: Lab) -> None:
    config = here.config("touch", "/mark")
    config["root"]["readonly"] = False
    here.create(config)
    mark = here.bundle / "rootfs" / "mark"
    assert not mark.exists()
    here.oci("start", "box")
    eventually(mark.exists)


def test_changes_of_the_config_after_create_have_no_effect(here: Lab) -> None:
    config = here.config("touch", "/first")
    config["root"]["readonly"] = False
    here.create(config)
    here.write(here.config("touch", "/second"))
    here.oci("start", "box")
    eventually((here.bundle / "rootfs" / "first").exists)
    assert not (here.bundle / "rootfs" / "second").exists()


@pytest.mark.parametrize("command", ["state", "start", "kill", "delete", "pause", "resume", "ps", "exec", "update"])
def test_a_container_that_is_not_there_is_an_error(here: Lab, command: str) -> None:
    code, _, err = here.ran(command, "nobody", *(["true"] if command == "exec" else []))
    assert (code, err) == (1, "error: container does not exist: nobody\n")


def test_deleting_with_force_what_is_not_there_is_none(here: Lab) -> None:
    assert here.ran("delete", "--force", "nobody") == (0, "", "")


def test_an_id_is_there_once(here: Lab) -> None:
    here.create(here.config("sleep", "1000"))
    code, _, err = here.ran("create", "box")
    assert code == 1
    assert "container with given ID already exists: box" in err
    assert here.status() == "created"


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "..", "a b", "a\nb"])
def test_what_is_no_id_is_refused(here: Lab, name: str) -> None:
    here.write(here.config())
    code, _, err = here.ran("create", name)
    assert code == 1
    assert "invalid container ID" in err


def test_start_is_for_what_is_created_and_changes_nothing_else(here: Lab) -> None:
    here.create(here.config("sleep", "1000"))
    here.oci("start", "box")
    code, _, err = here.ran("start", "box")
    assert (code, err) == (1, "error: cannot start a container in the running state: box\n")
    assert here.status() == "running"
    here.oci("kill", "--all", "box", "9")
    eventually(lambda: here.status() == "stopped")
    assert here.ran("start", "box")[0] == 1


def test_kill_is_for_what_is_created_or_running(here: Lab) -> None:
    here.create(here.config("sleep", "1000"))
    here.oci("kill", "box", "SIGKILL")
    eventually(lambda: here.status() == "stopped")
    code, _, err = here.ran("kill", "box", "TERM")
    assert code == 1
    assert "container not running" in err
    assert "unknown signal" in here.ran("kill", "box", "SIGNOTHING")[2]


def test_delete_is_for_what_is_stopped(here: Lab) -> None:
    here.create(here.config("sleep", "1000"))
    here.oci("start", "box")
    code, _, err = here.ran("delete", "box")
    assert code == 1
    assert "it is running" in err
    assert here.status() == "running"
    here.oci("delete", "--force", "box")
    assert here.oci("list", "-q") == ""


def test_a_program_gets_the_signal_that_is_sent(here: Lab) -> None:
    config = here.config("sh", "-c", "trap 'touch /got' USR1; touch /ready; while :; do sleep 0.01; done")
    config["root"]["readonly"] = False
    here.create(config)
    here.oci("start", "box")
    eventually((here.bundle / "rootfs" / "ready").exists)
    here.oci("kill", "box", "USR1")
    eventually((here.bundle / "rootfs" / "got").exists)


def test_a_program_that_is_not_there_is_an_error_of_create(here: Lab) -> None:
    here.write(here.config("no-such-program"))
    code, _, err = here.ran("create", "box")
    assert (code, err) == (127, "error: executable file `no-such-program` not found in $PATH: No such file or directory\n")
    here.write(here.config("/etc"))
    assert here.ran("run", "box")[0] == 126
    assert here.oci("list", "-q") == ""


def test_errors_are_in_the_log_as_its_reader_wants_them(here: Lab) -> None:
    log = here.top / "log"
    here.ran("--log", str(log), "--log-format", "json", "start", "nobody")
    entry = json.loads(log.read_text())
    assert (entry["level"], entry["msg"]) == ("error", "container does not exist: nobody")
    here.ran("--log", str(log), "start", "other")
    assert 'level=error msg="container does not exist: other"' in log.read_text().splitlines()[-1]


def test_the_pid_file_is_of_the_first_process(here: Lab) -> None:
    pid_file = here.top / "pid"
    here.create(here.config("sleep", "1000"), "box", "--pid-file", str(pid_file))
    assert int(pid_file.read_text()) == here.state()["pid"]


def test_a_further_process_is_in_all_of_the_containers_namespaces(here: Lab) -> None:
    here.create(here.config("sleep", "1000"))
    here.oci("start", "box")
    kinds = "pid mnt net uts ipc cgroup"
    script = f"for kind in {kinds}; do readlink /proc/self/ns/$kind; done; readlink /proc/self/cwd; id -u"
    found = here.oci("exec", "--cwd", "/etc", "--user", "33", "box", "sh", "-c", script).split()
    pid = here.state()["pid"]
    assert found == [*(os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds.split()), "/etc", "33"]
    assert here.ran("exec", "box", "sh", "-c", "exit 9")[0] == 9
    assert here.ran("exec", "box", "no-such-program")[0] == 127
    code, _, err = here.ran("exec", "--cgroup", "../..", "box", "true")
    assert (code, "is not below the container's cgroup" in err) == (1, True), err
    code, _, err = here.ran("exec", "--cwd", "/dev/no/such", "box", "true")
    assert (code, "cannot enter the working directory /dev/no/such" in err) == (1, True)
    here.oci("kill", "box", "0")  # Somebody is there.
    here.oci("kill", "box", "KILL")
    eventually(lambda: here.status() == "stopped")
    assert "stopped" in here.ran("exec", "box", "true")[2]


def test_a_paused_container_stands_still_until_it_is_resumed(here: Lab) -> None:
    here.create(here.config("sleep", "1000"))
    here.oci("start", "box")
    here.oci("pause", "box")
    assert here.status() == "paused"
    assert here.ran("exec", "box", "true")[0] == 1
    assert here.ran("pause", "box")[0] == 1
    here.oci("resume", "box")
    assert here.status() == "running"
    assert here.ran("resume", "box")[0] == 1
    here.oci("pause", "box")  # And a paused one can be deleted.


def test_processes_and_containers_are_listed(here: Lab) -> None:
    here.create(here.config("sleep", "1000"))
    here.oci("start", "box")
    pid = here.state()["pid"]
    assert json.loads(here.oci("ps", "-f", "json", "box")) == [pid]
    assert here.oci("ps", "box").splitlines()[1].split() == [str(pid), "sleep", "1000"]
    (listed,) = json.loads(here.oci("list", "--format", "json"))
    assert (listed["id"], listed["status"], listed["pid"]) == ("box", "running", pid)


def test_spec_writes_a_config_that_runs(here: Lab) -> None:
    here.oci("spec", "--bundle", str(here.bundle))
    config = json.loads((here.bundle / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["hostname"]}
    config["process"].pop("rlimits")  # Not every root may raise them.
    assert here.run(config)[1] == "pystack\n"
    assert here.ran("spec")[0] == 1


def test_features_name_what_there_is(here: Lab) -> None:
    features = json.loads(here.oci("features"))
    assert (features["ociVersionMin"], features["ociVersionMax"]) == ("1.0.0", "1.3.0")
    assert "createContainer" in features["hooks"]
    assert {"rro", "ridmap", "rbind"} <= set(features["mountOptions"])


def test_checkpoints_are_refused_with_the_reason(here: Lab) -> None:
    code, _, err = here.ran("checkpoint", "box")
    assert code == 1
    assert "checkpoint is not supported" in err


def test_signals_of_run_reach_the_program(here: Lab) -> None:
    """Without a PID namespace of its own it sees its parent."""
    config = here.config("sh", "-c", "trap 'exit 5' TERM; kill -TERM $PPID; while :; do sleep 0.01; done")
    config["linux"]["namespaces"] = [item for item in config["linux"]["namespaces"] if item["type"] != "pid"]
    assert here.run(config)[0] == 5
