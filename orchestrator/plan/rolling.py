"""The replacement of a service's containers a few at a time, as a plan has it (docs/rolling-updates.md). Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from orchestrator.errors import InputError
from orchestrator.model.names import NetworkName, successor_id
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.updating import Order, UpdateRules
from orchestrator.plan.builder import PlanBuilder
from orchestrator.plan.observed import ObservedContainer
from orchestrator.plan.plan import Roll, Slot
from orchestrator.plan.sharing import shared_services
from orchestrator.values import replace


def require_start_first(project: Project, service: Service) -> None:
    """Raise InputError for a service that is to be updated start-first, and of which there cannot be two containers in one
    place."""
    for name, rules in (("update_config", service.update), ("rollback_config", service.rollback)):
        if rules is None or rules.order is not Order.START_FIRST or (found := _only_once(project, service)) is None:
            continue
        key, text = found
        raise InputError(
            f'service "{service.name}" cannot be updated start-first: {text}',
            hint=f"remove `{key}`, or write `order: stop-first`",
            place=project.where(f"{service.place}.deploy.{name}.order"),
        )


def _only_once(project: Project, service: Service) -> tuple[str, str] | None:
    """What of it cannot be had twice at a time: its key, and why."""
    if service.container_name is not None:
        return "container_name", "it has a container_name, and container names are unique"
    for attachment in service.networks.values():
        for key in ("ipv4_address", "ipv6_address", "mac_address"):
            if (value := getattr(attachment, key)) is not None:
                return key, f"it has the {key} {value}, which only one container can have at a time"
        if attachment.link_local:
            return "link_local_ips", "it has link_local_ips, which only one container can have at a time"
    for other in project.services.values():
        if kind := shared_services(project, other).get(service.name):
            return f"services.{other.name}", f"{other.name} is in the {kind} namespace of its container"
    return None


def rules_for(
    service: Service, items: Sequence[ObservedContainer], moved: Collection[NetworkName]
) -> UpdateRules | None:
    """None: all at once. So it is also when a network that they are on is made anew: that takes them all off it."""
    used = {*service.networks, *(key for item in items for key in (*item.networks, *item.definition.networks))}
    return service.update if used.isdisjoint(moved) else None


def roll(
    builder: PlanBuilder,
    service: Service,
    rules: UpdateRules,
    causes: Sequence[tuple[ObservedContainer, str]],
    timeout_s: float | None,
    *,
    renew_volumes: bool = False,
) -> None:
    """Replace these replicas by `rules`, each for its cause. New anonymous volumes cannot be had while the old container
    has those of before, so `renew_volumes` means stop-first; and nobody is to be succeeded in what does not run."""
    if renew_volumes:
        rules = replace(rules, order=Order.STOP_FIRST)
    slots: list[Slot] = []
    for number, (item, cause) in enumerate(causes, 1):
        text = f"{cause} (update {number} of {len(causes)})"
        if rules.order is Order.START_FIRST and item.running and not item.stopping:
            new = successor_id(builder.project.name, item.instance, item.container)
            builder.succeed(item, new, service, text, timeout_s)
        else:
            new = builder.name_of(item.instance, service)
            builder.replace(item, service, text, timeout_s, renew_volumes=renew_volumes)
        builder.watch(item.instance, new, f"for {rules.monitor_s:g}s")
        slots.append(Slot(item.container, new))
    first = causes[0][0]
    builder.rolls[service.name] = Roll(
        service.name, rules, tuple(slots), first.definition, first.record.definition.image
    )
