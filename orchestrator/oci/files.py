"""The files that are made for a container: its names, addresses and resolver. Pure."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.runtime import GeneratedFile
from orchestrator.contracts.site import MOST_ID
from orchestrator.errors import InputError
from orchestrator.model.granted import GrantedFile
from orchestrator.model.namespaces import Sharing
from orchestrator.model.resolving import HOST_GATEWAY
from orchestrator.oci.inputs import Context
from orchestrator.oci.mounts import check_target, clean_path

_HOSTS_HEAD = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def _hosts(context: Context) -> str:
    """As Docker has them: hosts of the stack before the container's own names."""
    name, domain = context.hostname, context.service.domainname
    full = f"{name}.{domain}" if domain else name
    names = f"{full} {name.partition('.')[0]}" if "." in full else name
    endpoints = context.inputs.endpoints
    addresses = [address for endpoint in endpoints for address in endpoint.addresses if not address.is_link_local]
    own = "".join(f"{address.ip}\t{names}\n" for address in addresses)
    return _HOSTS_HEAD + _added_hosts(context) + (own or f"127.0.1.1\t{names}\n")


def _added_hosts(context: Context) -> str:
    return "".join(f"{_address(text, context)}\t{host}\n" for host, text in context.service.resolving.hosts)


def _address(text: str, context: Context) -> str:
    if text != HOST_GATEWAY:
        return text
    for endpoint in (*_outward(context), *context.inputs.endpoints):
        if not endpoint.outer:
            return endpoint.addresses[0].gateway
    if context.service.namespaces.network.sharing is Sharing.HOST:
        return "127.0.0.1"
    message = f'"{HOST_GATEWAY}" has no address: the container is on no network of this machine'
    hint = "give the service a network of driver bridge"
    raise InputError(message, hint=hint, place=f"{context.service.place}.extra_hosts")


def _outward(context: Context) -> tuple[Endpoint, ...]:
    return tuple(endpoint for endpoint in context.inputs.endpoints if not endpoint.internal)


def _resolv_conf(context: Context) -> str:
    """Our DNS on the first network with a way out: it knows the names of the stack, and whom the container
    wants asked for others (`Endpoint.dns`); without a network those are asked directly. ndots:0: service names have no
    dots, and a search list must not send them outside first."""
    inputs, resolving = context.inputs, context.service.resolving
    outward = _outward(context) or inputs.endpoints
    servers = [end.name_server for end in outward if end.name_server][:1] or list(resolving.servers)
    lines = [f"nameserver {server}" for server in servers]
    if search := [name for name in resolving.search or inputs.resolv_search if name != "."]:
        lines.append("search " + " ".join(search))
    options = [option for option in inputs.resolv_options if not option.startswith("ndots:")]
    options = list(resolving.options) or options
    if not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
    lines.append("options " + " ".join(options))
    return "\n".join(lines) + "\n"


_FILES: tuple[tuple[str, Callable[[Context], str]], ...] = (
    ("/etc/hosts", _hosts),
    ("/etc/hostname", lambda context: context.hostname + "\n"),
    ("/etc/resolv.conf", _resolv_conf),
)


def files_of(context: Context) -> tuple[GeneratedFile, ...]:
    """Those that the stack does not mount itself, and what it grants that is no file of the host's. Raises InputError."""
    service = context.service
    mounted = {clean_path(mount.target) for mount in service.volumes}
    granted = [file for file in service.files if clean_path(file.target) not in mounted]
    taken = mounted | {clean_path(file.target) for file in granted}
    ours = [
        GeneratedFile(path, _network_file(context, path, content))
        for path, content in _FILES
        if path not in taken and "/etc" not in taken
    ]
    return (*ours, *(_granted(context, file) for file in granted if not file.source))


def _network_file(context: Context, path: str, content: Callable[[Context], str]) -> bytes | None:
    """The host's with the host's network, and what the service says beside; another container's with its own
    (`SandboxSpec.shares`)."""
    match context.service.namespaces.network.sharing:
        case Sharing.SERVICE | Sharing.CONTAINER:
            return None
        case Sharing.HOST if path in context.inputs.host_files and not (
            path == "/etc/hostname" and context.service.hostname
        ):
            return _beside_the_hosts(context, path, context.inputs.host_files[path])
        case _:
            return content(context).encode("utf-8", "surrogateescape")


def _beside_the_hosts(context: Context, path: str, content: bytes) -> bytes:
    """``extra_hosts`` stand behind the host's lines, ``dns`` and its like in place of them."""
    resolving = context.service.resolving
    added = ""
    if path == "/etc/hosts":
        added = _added_hosts(context)
    elif path == "/etc/resolv.conf":
        search = " ".join(name for name in resolving.search if name != ".")
        said = {
            "nameserver": [f"nameserver {server}" for server in resolving.servers],
            "search": [f"search {search}"] if search else [],
            "options": [f"options {' '.join(resolving.options)}"] if resolving.options else [],
        }
        replaced = {word.encode() for word, lines in said.items() if lines}
        if resolving.search:
            replaced |= {b"search", b"domain"}
        content = b"".join(line for line in content.splitlines(True) if (line.split() or [b""])[0] not in replaced)
        added = "".join(f"{line}\n" for lines in said.values() for line in lines)
    if added and content and not content.endswith(b"\n"):
        content += b"\n"
    return content + added.encode("utf-8", "surrogateescape")


def _granted(context: Context, file: GrantedFile) -> GeneratedFile:
    target = clean_path(file.target)
    check_target(target, f"the {file.name}: ", file.place)
    if (highest := max(file.uid, file.gid)) > MOST_ID:
        raise InputError(f"id {highest} is above {MOST_ID}, the highest that a container has", place=file.place)
    content = file.content.encode("utf-8", "surrogateescape") if file.content is not None else None
    return GeneratedFile(target, content, file.mode, file.uid, file.gid)
