"""Which images services ask for, as requests. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.contracts.images import ImageRequest
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import mounted_images


def image_request(project: Project, service: Service) -> ImageRequest:
    """What `service` is made from. An image that another service of the stack builds is built for this one too."""
    maker = service if service.build is not None else _maker(project, service.image) or service
    return ImageRequest(service.image, project.working_dir, service.platform, maker.pull_policy, maker.build)


def image_key(project: Project, service: Service, request: ImageRequest) -> str:
    """The attribute of `service` that asks for it."""
    if request.reference != service.image:
        images = [step.definition.image for step in service.pre_start]
        return f"pre_start[{images.index(request.reference)}]" if request.reference in images else "volumes"
    return "build" if service.build is not None and f"{service.place}.image" not in project.places else "image"


def mounted_request(project: Project, reference: str) -> ImageRequest:
    """An image that services mount."""
    maker = _maker(project, reference)
    if maker is None:
        return ImageRequest(reference, project.working_dir)
    return ImageRequest(reference, project.working_dir, maker.platform, maker.pull_policy, maker.build)


def image_requests(project: Project, service: Service) -> Iterator[ImageRequest]:
    """What `service` is made from, then what it mounts, then the same of what runs before it."""
    yield image_request(project, service)
    for reference in mounted_images(service.volumes):
        yield mounted_request(project, reference)
    for step in service.pre_start:
        yield from image_requests(project, step.definition)


def own_images(service: Service) -> int:
    """How many of `image_requests` are of the service itself."""
    return 1 + len(mounted_images(service.volumes))


def _maker(project: Project, reference: str) -> Service | None:
    return next((item for item in project.services.values() if item.image == reference and item.build is not None), None)
