"""Which health check is in force for a service. Pure."""

from __future__ import annotations

from orchestrator.contracts.images import Image
from orchestrator.model.health import HealthCheck
from orchestrator.model.service import Service
from orchestrator.values import replace


def healthcheck_of(service: Service, image: Image) -> HealthCheck | None:
    """The stack's or the image's, with its `test`; None when there is none or it is disabled."""
    own, inherited = service.healthcheck, image.config.healthcheck
    merged = inherited if own is None else own
    if merged is None or merged.disabled:
        return None
    if merged.test is None:
        if inherited is None or inherited.disabled or inherited.test is None:
            return None
        merged = replace(merged, test=inherited.test)
    return merged
