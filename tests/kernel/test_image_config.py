"""An image's configuration in a real container of a service that says nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.images import Image, ImageConfig
from orchestrator.images.spec.config import container_config, make_config, parse_config
from orchestrator.images.spec.platform import host_platform
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.model.service import Service
from orchestrator.oci.compile import compile_sandbox
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.plan.healthcheck import healthcheck_of
from orchestrator.values import replace
from tests.kernel.place import Place, place

pytestmark = pytest.mark.kernel

SHOW = 'id -u; id -G; echo "$KIND $HOME $0 $1"; pwd; stat -c "%u:%g %a" /srv/new; touch /data/x && echo written'
CONFIG = {
    "Entrypoint": ["/bin/sh", "-c", SHOW, "entry"],
    "Cmd": ["argument"],
    "Env": ["PATH=/bin", "KIND=of the image"],
    "User": "app",
    "WorkingDir": "/srv/new/deep",
    "Volumes": {"/data/": {}},
    "StopSignal": "SIGUSR1",
    "Labels": {"maker": "me"},
    "Shell": ["/bin/sh", "-ec"],
}
SERVICE = Service(ServiceName("app"), "app:1")


def image(rootfs: Path, **changes: Any) -> Image:
    """As it comes out of a configuration file."""
    config: ImageConfig = container_config(parse_config(make_config(host_platform(), {**CONFIG, **changes}, [])))
    passwd, group = b"root:x:0:0::/root:/bin/sh\napp:x:7:8::/home/app:/bin/sh\n", b"root:x:0:\napp:x:8:\nmore:x:9:app\n"
    return Image("app:1", "sha256:1", (str(rootfs),), config, passwd=passwd, group=group)


async def output(here: Place, service: Service, of: Image) -> list[str]:
    """What the container of `service` writes, from its start to its end with 0."""
    volume = Path(here.site.data_dir, "volume")
    volume.mkdir()
    volume.chmod(0o777)
    inputs = SandboxInputs(here.site, ContainerId("rt-a-1"), service, of, volume_paths={"/data": str(volume)})
    spec = compile_sandbox(inputs)
    await here.runtime.create(replace(spec, fills=()))
    run = await here.runtime.start(spec.container)
    ended = await here.runtime.wait(run)
    written = here.log(run.container).decode().splitlines()
    assert ended.code == 0, written
    return written


async def test_it_takes_effect(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with place(busybox_rootfs) as here:
        shown = await output(here, SERVICE, image(busybox_rootfs))
    assert shown == ["7", "8 9", "of the image /home/app entry argument", "/srv/new/deep", "0:0 755", "written"]


async def test_what_the_service_says_goes_before(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    own = replace(SERVICE, command=("mine",), user="0", environment={"KIND": "own", "HOME": "/h"}, working_dir="/srv/new")
    async with place(busybox_rootfs) as here:
        shown = await output(here, own, image(busybox_rootfs))
    assert shown == ["0", "0", "own /h entry mine", "/srv/new", "0:0 755", "written"]


async def test_the_text_of_a_health_check_runs_in_the_image_s_shell(
    leaves_nothing_behind: None, busybox_rootfs: Path
) -> None:
    of = image(busybox_rootfs, Healthcheck={"Test": ["CMD-SHELL", 'case $- in *e*) echo "$0 with -e";; esac']})
    check = healthcheck_of(SERVICE, of)
    assert check is not None
    async with place(busybox_rootfs) as here:
        shown = await output(here, replace(SERVICE, entrypoint=check.test), of)
    assert shown == ["/bin/sh with -e"]
