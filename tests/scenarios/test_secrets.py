"""Secrets and configs of a stack as `pystack` brings it up: where they come from, and who can read them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.machine import Pystack

pytestmark = pytest.mark.kernel

STACK = """
services:
  app:
    image: rootfs:{image}
    user: "1000:1000"
    read_only: true
    command: [sleep, "3600"]
    stop_grace_period: 0s
    secrets:
    - file
    - {{source: token, target: deep/token, uid: "1000", gid: "7", mode: 0400}}
    configs:
    - {{source: conf, target: /etc/app.conf}}
secrets:
  file: {{file: ./file.txt}}
  token: {{environment: TOKEN}}
configs:
  conf: {{content: "port=${{PORT}}\\n"}}
"""


def test_a_container_reads_its_secrets_and_configs_and_no_record_has_them(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(image=busybox_rootfs), files={"file.txt": "from a file\n"})
    values = {"TOKEN": "s3cret-t0ken\n", "PORT": "81"}
    refused = stack.run("up", "-d", env={"PORT": "81"})
    assert refused.code == 2
    assert 'services.app.secrets[1]: the variable of the secret "token" is not set: "TOKEN"' in refused.stderr
    stack.must("up", "-d", env=values)
    token = "/run/secrets/deep/token"
    script = f"cat /run/secrets/file {token} /etc/app.conf; stat -c '%a %u %g' {token} /etc/app.conf"
    shown = stack.must("exec", "app", "sh", "-c", script).stdout
    assert shown == "from a file\ns3cret-t0ken\nport=81\n400 1000 7\n444 0 0\n"
    assert stack.run("exec", "-u", "0", "app", "sh", "-c", "echo x > /run/secrets/file").code != 0
    assert stack.run("exec", "-u", "7:7", "app", "cat", token).code != 0
    files = [path for path in pystack.data_dir.rglob("*") if path.is_file() and path.parent.name != "logs"]
    (bundle,) = (path for path in files if b"s3cret-t0ken" in path.read_bytes())
    assert (bundle.name, bundle.stat().st_mode & 0o077) == ("spec.json", 0)

    before = stack.ps()["app"]["Pid"]
    stack.must("up", "-d", env=values)
    assert stack.ps()["app"]["Pid"] == before, "the same values are no change"
    (supervisor,) = (pid for pid, command in pystack.processes().items() if "/supervisor/" in command)
    os.kill(supervisor, signal.SIGKILL)
    stack.must("restart")
    assert stack.ps()["app"]["Pid"] != before
    assert stack.must("exec", "app", "cat", token).stdout == "s3cret-t0ken\n"
    stack.must("up", "-d", env=values | {"TOKEN": "other\n"})
    assert stack.must("exec", "app", "cat", token).stdout == "other\n"


def test_a_missing_file_is_one_error_with_its_place_and_nothing_is_begun(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(image=busybox_rootfs))
    refused = stack.run("up", "-d", env={"TOKEN": "t", "PORT": "1"})
    assert refused.code == 2
    assert 'services.app.secrets[0]: the file of the secret "file" does not exist' in refused.stderr
    assert stack.must("ps", "-a", "-q", env={"TOKEN": "t", "PORT": "1"}).stdout == ""
