"""``config --resolve-image-digests`` and ``--lock-image-digests``: what a stack's tags mean in their registries now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.images.reference import Named, parse_reference
from orchestrator.images.registry.credentials import Credentials
from orchestrator.images.registry.faults import Fault, error_of
from orchestrator.images.registry.settings import load_settings
from orchestrator.images.registry.sources import sources_of
from orchestrator.images.registry.wire import Wire
from orchestrator.images.together import each, run_to_end
from orchestrator.values import replace

if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings

_AT_ONCE = 4


def pinned(settings: Settings, canonical: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved stack with a digest in each image that a registry has (``docker.io/library/redis:7@sha256:HEX``).

    Raises OperationError for one that its registry does not have, InputError for a reference or credentials that are
    malformed.
    """
    services: dict[str, Any] = canonical.get("services") or {}
    images = {str(service["image"]) for service in services.values() if service.get("image")}
    digests = _resolved(settings, images)
    changed = {
        name: {**service, "image": digests[service["image"]]} if service.get("image") in digests else service
        for name, service in services.items()
    }
    return {**canonical, "services": changed}


def images_alone(canonical: Mapping[str, Any]) -> dict[str, Any]:
    """An override file that pins the images of `canonical`."""
    services = canonical.get("services") or {}
    return {"services": {name: {key: one[key] for key in ("image",) if key in one} for name, one in services.items()}}


def _resolved(settings: Settings, images: Iterable[str]) -> dict[str, str]:
    """By image; those that are in no registry, or have a digest, are left out."""
    named = {image: reference for image in images if isinstance(reference := parse_reference(image), Named)}
    asked = {image: reference for image, reference in named.items() if reference.digest is None}
    found: dict[str, str] = {}

    async def work() -> None:
        registries, credentials = load_settings(settings.environ), Credentials(settings.environ)
        async with Wire(registries) as wire:

            async def one(image: str) -> None:
                reference = asked[image]
                try:
                    sources = await sources_of(wire, registries, reference, credentials, lambda part: None)
                    digest = await sources.head(reference.tag) or (await sources.manifest(reference.tag))[0]
                except Fault as exc:
                    raise error_of(exc, f"cannot resolve {reference.familiar}") from exc
                found[image] = replace(reference, digest=digest).full

            await each(dict.fromkeys(asked, ()), one, at_once=_AT_ONCE, go_on=False)

    run_to_end(work)
    return found
