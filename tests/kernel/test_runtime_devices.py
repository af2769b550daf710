"""Devices of the host in a container: nodes, and the device list of its group on v1 and on v2."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.errors import HostError, InputError
from orchestrator.kernel import device_filter
from orchestrator.kernel.cgroup import detect
from orchestrator.kernel.device_filter import BLOCK, CHARACTER, MKNOD, READ, WRITE, DeviceFilterRule
from orchestrator.runtime import device_rules
from orchestrator.values import replace
from tests.kernel.place import Place, place

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no FUSE: no device that is nobody's by default"),
]
DENY = {"allow": False, "access": "rwm"}
FUSE = {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o666}
MAY_FUSE = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


def with_linux(spec: SandboxSpec, devices: list[dict[str, Any]], rules: list[dict[str, Any]] | None) -> SandboxSpec:
    linux = dict(spec.config["linux"]) | {"devices": devices}
    if rules is not None:
        linux["resources"] = {**linux["resources"], "devices": rules}
    return replace(spec, config=OciConfig({**spec.config, "linux": linux}))


async def run(here: Place, script: str, devices: list[dict[str, Any]], rules: list[dict[str, Any]] | None) -> str:
    spec = with_linux(here.spec(["sh", "-c", script]), devices, rules)
    await here.runtime.create(spec)
    await here.runtime.wait(await here.runtime.start(spec.container))
    return here.log(spec.container).decode()


async def test_a_node_has_its_numbers_mode_and_owner_and_opens_where_its_rule_says_so(here: Place) -> None:
    deep = {**FUSE, "path": "/dev/deep/er/fuse", "fileMode": 0o640, "uid": 3, "gid": 44}
    outside = {**FUSE, "path": "/srv/nodes/fuse", "fileMode": 0o600}
    script = """
        stat -c '%n %t:%T %a %u:%g' /dev/fuse /dev/deep/er/fuse /srv/nodes/fuse; ls -A /dev | grep outside
        for path in /dev/fuse /srv/nodes/fuse; do dd if=$path of=/dev/null count=0 2>/dev/null && echo reads $path; done
        (: >> /dev/fuse) 2>&1 | grep -o 'Operation not permitted'
        echo fine > /dev/null && head -c 1 /dev/zero | wc -c && : < /dev/tty || true
    """
    log = await run(here, script, [FUSE, deep, outside], [DENY, MAY_FUSE])
    assert log.splitlines()[:7] == [
        "/dev/fuse a:e5 666 0:0",
        "/dev/deep/er/fuse a:e5 640 3:44",
        "/srv/nodes/fuse a:e5 600 0:0",
        "reads /dev/fuse",
        "reads /srv/nodes/fuse",
        "Operation not permitted",
        "1",
    ]


async def test_a_node_without_a_rule_does_not_open(here: Place) -> None:
    script = "dd if=/dev/fuse of=/dev/null count=0 2>&1 | grep -o 'Operation not permitted'"
    assert await run(here, script, [FUSE], [DENY]) == "Operation not permitted\n"


async def test_a_device_below_a_bind_opens_as_the_list_says(here: Place, tmp_path: Path) -> None:
    os.mknod(tmp_path / "fuse", stat.S_IFCHR | 0o666, os.makedev(10, 229))
    (tmp_path / "fuse").chmod(0o666)
    script = "dd if=/mnt/fuse of=/dev/null count=0 2>&1 | tail -1"
    for options, rules, said in (
        (["rbind", "idmap", "nodev"], None, "Permission denied"),
        (["rbind", "idmap"], [DENY], "Operation not permitted"),
        (["rbind", "idmap"], [DENY, MAY_FUSE], "records out"),
    ):
        mount = {"destination": "/mnt", "type": "bind", "source": str(tmp_path), "options": options}
        spec = with_linux(here.spec(["sh", "-c", script], mounts=[mount]), [], rules)
        await here.runtime.create(spec)
        await here.runtime.wait(await here.runtime.start(spec.container))
        assert said in here.log(spec.container).decode().splitlines()[-1]


async def test_the_tun_device_is_not_allowed_unless_asked_for(here: Place) -> None:
    tun = {"type": "c", "path": "/dev/net/tun", "major": 10, "minor": 200}
    script = "(: < /dev/net/tun) 2>&1 | grep -o 'Operation not permitted'; ls /dev/net"
    assert await run(here, script, [tun], [DENY]) == "Operation not permitted\ntun\n"


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ({"type": "x", "path": "/dev/x", "major": 1, "minor": 1}, "is not a kind of device"),
        ({"type": "c", "path": "/dev/../etc/x", "major": 1, "minor": 1}, "is not the path of a device"),
        ({"type": "c", "path": "/dev/shm/x", "major": 1, "minor": 1}, "would be hidden"),
        ({"type": "c", "path": "/dev/x", "major": 1}, "needs its major and minor"),
    ],
)
async def test_a_node_that_cannot_be_made_is_refused(here: Place, device: dict[str, Any], message: str) -> None:
    spec = with_linux(here.spec(["true"]), [device], None)
    await here.runtime.create(spec)
    with pytest.raises(InputError, match=message):
        await here.runtime.start(spec.container)


# ---- v2: the same rules as a program, in a v2 group of its own -----------------------------------------------------------


@pytest.fixture
def group(leaves_nothing_behind: None) -> Callable[[list[DeviceFilterRule], str], bool]:
    """Whether a process in a v2 group with these rules can run a Python statement."""

    def can(rules: list[DeviceFilterRule], statement: str) -> bool:
        unified = detect().unified
        assert unified is not None
        path = f"{unified}/devices-{os.getpid()}"
        os.mkdir(path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            device_filter.attach(fd, [DeviceFilterRule(True)])
            device_filter.attach(fd, rules)
            assert len(device_filter._attached(fd)) == 1
            pid = os.fork()
            if pid == 0:
                try:
                    Path(path, "cgroup.procs").write_text("0")
                    exec(statement)
                    os._exit(0)
                finally:
                    os._exit(1)
            return os.waitpid(pid, 0)[1] == 0
        finally:
            os.close(fd)
            os.rmdir(path)

    return can


YES, NO = DeviceFilterRule(True), DeviceFilterRule(False)
OPEN = "os.close(os.open('/dev/{}', os.{}))"
MAKE = "os.mknod('/dev/shm/n', 0o20600, 5); os.unlink('/dev/shm/n')"
CASES: list[tuple[list[DeviceFilterRule], str, bool]] = [
    ([DeviceFilterRule(False)], OPEN.format("zero", "O_RDONLY"), False),
    ([DeviceFilterRule(True)], OPEN.format("zero", "O_RDWR"), True),
    ([DeviceFilterRule(True, CHARACTER, 1, 5)], OPEN.format("zero", "O_RDWR"), True),
    ([DeviceFilterRule(True, CHARACTER, 1, 5)], OPEN.format("full", "O_RDWR"), False),
    ([DeviceFilterRule(True, BLOCK, 1, 5)], OPEN.format("zero", "O_RDWR"), False),
    ([DeviceFilterRule(True, 0, 1)], OPEN.format("full", "O_RDWR"), True),
    ([DeviceFilterRule(True, CHARACTER, 1, 5, READ)], OPEN.format("zero", "O_RDONLY"), True),
    ([DeviceFilterRule(True, CHARACTER, 1, 5, READ)], OPEN.format("zero", "O_RDWR"), False),
    ([YES, DeviceFilterRule(False, CHARACTER, 1, 5, WRITE)], OPEN.format("zero", "O_RDONLY"), True),
    ([YES, DeviceFilterRule(False, CHARACTER, 1, 5, WRITE)], OPEN.format("zero", "O_RDWR"), False),
    ([NO, DeviceFilterRule(True, CHARACTER, 1, access=READ | WRITE)], OPEN.format("zero", "O_RDWR"), True),
    ([DeviceFilterRule(True, CHARACTER, access=MKNOD)], MAKE, True),
    ([DeviceFilterRule(True, CHARACTER, access=READ)], MAKE, False),
    ([DeviceFilterRule(True, CHARACTER, (1 << 32) - 1, 5)], OPEN.format("zero", "O_RDONLY"), False),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "statement", "works"), CASES)
def test_a_v2_group_lets_through_what_its_last_fitting_rule_allows(
    group: Callable[[list[DeviceFilterRule], str], bool], rules: list[DeviceFilterRule], statement: str, works: bool
) -> None:
    assert group(rules, statement) is works


def test_the_defaults_hold_on_v2_too(group: Callable[[list[DeviceFilterRule], str], bool]) -> None:
    rules = device_rules.rules_of({"devices": [DENY]})
    assert rules is not None
    assert all(group(rules, OPEN.format(name, "O_RDWR")) for name in ("null", "zero", "random", "ptmx"))
    assert not group(rules, OPEN.format("fuse", "O_RDONLY"))


async def test_a_list_that_the_machine_cannot_keep_is_an_error(here: Place) -> None:
    if "devices" not in detect().controllers:
        pytest.skip("v2 can do it")
    partly = [DENY, {"allow": True, "type": "c", "major": 10, "access": "rwm"}]
    rules = [*partly, {"allow": False, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]
    with pytest.raises(HostError, match="cgroup v1 cannot refuse a part"):
        await here.runtime.create(with_linux(here.spec(["true"]), [], rules))
