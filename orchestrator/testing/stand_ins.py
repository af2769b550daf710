"""The images of a simulation: those that the machine has, as they are, and stand-ins for the others."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from orchestrator.contracts.images import Image, ImageConfig, ImageRequest, Known
from orchestrator.errors import PystackError
from orchestrator.images.machine import MachineImages
from orchestrator.model.project import Project
from orchestrator.plan.images import image_requests
from orchestrator.values import frozen

_FIRST_ID = 1000


@frozen
class Found:
    """`images`: by reference. `made_up`: the references of those that stand in for what is not here."""

    images: Mapping[str, Image]
    made_up: tuple[str, ...]


def images_for(project: Project, images_dir: str) -> Found:
    """Nothing is pulled, built or changed."""

    async def look() -> Found:
        machine, found, made_up = MachineImages(images_dir), dict[str, Image](), list[str]()
        for request in {item for service in project.services.values() for item in image_requests(project, service)}:
            image = await _inspect(machine, request)
            if image is None:
                made_up.append(request.reference)
            found[request.reference] = image or stand_in(request.reference, project)
        return Found(found, tuple(sorted(made_up)))

    return trio.run(look)


def stand_in(reference: str, project: Project) -> Image:
    """An image that has every user and group that the stack names, and a program to start where the stack names none."""
    names = {name for service in project.services.values() for name in (service.user or "").split(":")}
    names |= {str(name) for service in project.services.values() for name in service.group_add}
    numbered = list(enumerate(sorted(name for name in names if name and not name.isdigit()), _FIRST_ID))
    passwd = "".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for number, name in numbered)
    group = "".join(f"{name}:x:{number}:\n" for number, name in numbered)
    config = ImageConfig(command=("program",))
    lowers = (f"/images/{reference}",)
    return Image(reference, f"stand-in for {reference}", lowers, config, (), passwd.encode(), group.encode())


async def _inspect(machine: MachineImages, request: ImageRequest) -> Image | None:
    try:
        known = await machine.inspect(request)
    except (PystackError, OSError):
        return None
    return known.image if isinstance(known, Known) else None
