"""Stacks that start in order without a health check, a curl or a sleep."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack, eventually

pytestmark = pytest.mark.kernel

SERVICE = """
  s{number}:
    image: rootfs:{rootfs}
    command: [sh, -c, "{first}sleep 0.05; exec httpd -f -p 80 -h /etc"]
    expose: [80]
    stop_grace_period: 0s
    x-pystack: {{{health}}}
"""
NEEDS = "    depends_on: {{s{before}: {{condition: service_healthy}}}}\n"


def chain(length: int, rootfs: Path, health: str = "ready: listening") -> str:
    """Each asks the one before it once, and ends with an error when that does not answer."""
    text = "services:"
    for number in range(length):
        first = f"wget -q -O /dev/null http://s{number - 1}/hosts || exit 9; " if number else ""
        text += SERVICE.format(number=number, rootfs=rootfs, first=first, health=health)
        text += NEEDS.format(before=number - 1) if number else ""
    return text


def test_ten_services_start_in_order_by_what_is_seen_of_them(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(chain(10, busybox_rootfs))
    stack.must("up", "-d", "--wait")
    assert {row["Health"] for row in stack.ps().values()} == {"healthy"}
    assert {row["State"] for row in stack.ps().values()} == {"running"}


@pytest.mark.parametrize("probe", ["{http: /hosts}", "{tcp: 80}", "{file: /etc/hosts}"])
def test_probes_from_outside_do_as_well(pystack: Pystack, busybox_rootfs: Path, probe: str) -> None:
    stack = pystack.stack(chain(2, busybox_rootfs, f"probe: {probe}"))
    if "file" in probe:
        stack = pystack.stack(chain(1, busybox_rootfs, f"probe: {probe}"))
    stack.must("up", "-d", "--wait")
    assert {row["Health"] for row in stack.ps().values()} == {"healthy"}


def test_a_line_in_its_log_makes_it_ready(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(f"""
services:
  db:
    image: rootfs:{busybox_rootfs}
    command: [sh, -c, "echo starting; sleep 0.3; touch /here; echo '[1] is READY now'; exec sleep 1000"]
    stop_grace_period: 0s
    x-pystack: {{probe: {{log: '(?i)^\\[\\d+\\] is ready'}}}}
  api:
    image: rootfs:{busybox_rootfs}
    command: [sleep, "1000"]
    stop_grace_period: 0s
    depends_on: {{db: {{condition: service_healthy}}}}
""")
    stack.must("up", "-d")
    pid = stack.ps()["db"]["Pid"]
    assert Path(f"/proc/{pid}/root/here").exists()
    assert stack.ps()["api"]["State"] == "running"


def test_a_web_server_that_fails_its_requests_is_restarted(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(f"""
services:
  web:
    image: rootfs:{busybox_rootfs}
    command: [sh, -c, "mkdir -p /w; touch /w/ok; exec httpd -f -p 8080 -h /w"]
    stop_grace_period: 0s
    restart: always
    x-pystack: {{probe: {{http: ":8080/ok", interval: 50ms, retries: 2}}}}
""")
    stack.must("up", "-d", "--wait")
    before = stack.ps()["web"]["Pid"]
    Path(f"/proc/{before}/root/w/ok").unlink()
    eventually(lambda: stack.ps()["web"]["Pid"] not in (None, 0, before))
    eventually(lambda: stack.ps()["web"]["Health"] == "healthy")
    assert "status 404" in stack.must("why", "web").stdout


def test_one_that_does_not_listen_in_time_holds_up_its_dependent_with_a_reason(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    text = chain(2, busybox_rootfs, "ready: {listening: [81], timeout: 300ms}")
    stack = pystack.stack(text)
    failed = stack.run("up", "-d")
    assert failed.code == 1
    assert "does not listen on 81" in failed.stderr
