"""Which health check is in force for a service. Pure."""

from __future__ import annotations

from orchestrator.contracts.images import Image
from orchestrator.model.health import DeclaredPort, HealthCheck, LookKind
from orchestrator.model.service import Service
from orchestrator.values import replace


def healthcheck_of(service: Service, image: Image) -> HealthCheck | None:
    """The stack's, with what it does not say from the image's (as moby merges them); None when there is none or it is
    disabled. A stack's text is run by the image's shell."""
    own, inherited = service.healthcheck, image.config.healthcheck
    if own is not None and own.disabled:
        return None
    if own is not None and own.look is not None:
        return _with_ports(own, image).with_defaults()
    if inherited is not None and inherited.disabled:
        inherited = None
    if own is not None and own.shell and own.test and image.config.shell:
        own = replace(own, test=(*image.config.shell, own.test[-1]))
    merged = own.over(inherited) if own is not None and inherited is not None else own or inherited
    if merged is None or not merged.test:
        return None
    return replace(merged.with_defaults(), shell=False)


def _with_ports(check: HealthCheck, image: Image) -> HealthCheck:
    """Where the stack declares no port, one of those that the image does; it may list many that are not in use."""
    look = check.look
    if look is None or look.kind is not LookKind.LISTENING or look.ports:
        return check
    exposed = (text.lower().partition("/") for text in image.config.exposed_ports)
    ports = tuple(DeclaredPort(int(number), protocol or "tcp") for number, _, protocol in exposed if number.isdecimal())
    known = tuple(port for port in ports if port.protocol in ("tcp", "udp"))
    return replace(check, look=replace(look, ports=known, any=True))
