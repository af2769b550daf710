"""A service as it is run once, beside its replicas."""

from __future__ import annotations

from orchestrator.model.restart import RestartPolicy
from orchestrator.model.service import Service
from orchestrator.values import replace


def as_single_run(service: Service) -> Service:
    """Without what is of the replicas alone: the restart policy, the number, what runs before them, the container's name
    (which is one of its aliases, too), the published ports, and fixed addresses, which a replica may have at the moment.
    Source: ``docker compose run``, measured."""
    return replace(
        service,
        restart=RestartPolicy(),
        pre_start=(),
        replicas=1,
        container_name=None,
        networks={
            name: replace(
                item,
                aliases=tuple(x for x in item.aliases if x != service.container_name),
                ipv4_address=None,
                ipv6_address=None,
                link_local=(),
            )
            for name, item in service.networks.items()
        },
        ports=(),
    )
