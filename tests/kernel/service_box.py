"""A container made from a service of a compose file, by way of everything that `up` does of it but the network."""

from __future__ import annotations

from pathlib import Path

from orchestrator.compose.load import LoadRequest, load
from orchestrator.contracts.images import Image, ImageConfig
from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.oci.compile import compile_sandbox
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.runtime.host_check import find_host
from orchestrator.supervisor.devices import kernel_version, parts_of
from tests.kernel.place import Place

BOX = ContainerId("rt-a-1")


class Box:
    """Runs a script as the service ``a`` of a stack."""

    def __init__(self, here: Place, folder: Path) -> None:
        self.here = here
        self.folder = folder

    def spec(self, attributes: str, script: str, cdi: Path | None = None) -> SandboxSpec:
        text = f"services: {{a: {{image: host, {attributes}}}}}\n"
        (self.folder / "compose.yaml").write_text(text)
        service = load(LoadRequest(str(self.folder), {})).project.services[ServiceName("a")]
        site, host = self.here.site, find_host()
        folders = (str(cdi),) if cdi is not None else ()
        inputs = SandboxInputs(
            site,
            BOX,
            service,
            Image("busybox", "sha256:0", (str(self.here.rootfs),), ImageConfig(command=("true",))),
            machine=host.machine,
            host_cpus=host.processors,
            kernel=kernel_version(),
            parts=parts_of(service, site.ids.count, folders),
        )
        spec = compile_sandbox(inputs)
        # Two pipes keep no order between them.
        spec.config["process"]["args"] = ["sh", "-c", f"exec 2>&1; {script}"]
        return spec

    async def run(self, attributes: str, script: str, cdi: Path | None = None) -> list[str]:
        """The lines that it writes."""
        spec = self.spec(attributes, script, cdi)
        await self.here.runtime.create(spec)
        before = len(self.here.log(BOX))
        await self.here.runtime.wait(await self.here.runtime.start(BOX))
        return self.here.log(BOX)[before:].decode().splitlines()
