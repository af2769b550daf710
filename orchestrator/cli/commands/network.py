"""``pystack network ls, create, inspect, rm, prune``. They need no supervisor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from orchestrator.cli.commands.volume import confirm, marks_of, pair
from orchestrator.cli.networks import COLUMNS, Found, files_of, filters_of, found_in, require, row_of, values_of
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.rows import render_rows, render_values
from orchestrator.cli.settings import Settings
from orchestrator.errors import InputError, OperationError
from orchestrator.model.network import Subnet
from orchestrator.model.network_options import BadOption, parse_options
from orchestrator.model.subnets import AddressRange, BadRange, parse_range
from orchestrator.network import shared_creation
from orchestrator.network.shared_creation import InUse
from orchestrator.network.shared_files import SharedFiles, SharedNetwork, check_name
from orchestrator.state.preparation import data_lock, make_private

_PLACES = {"subnet": "--subnet", "gateway": "--gateway", "ip_range": "--ip-range", "aux_addresses": "--aux-address"}


def list_(settings: Settings, quiet: bool, no_trunc: bool, filters: tuple[str, ...], shape: str) -> None:
    """List the networks that projects share, and their own."""
    wanted = filters_of(filters, ("dangling", "driver", "id", "label", "name", "scope", "type"))
    rows = [row_of(item, whole=no_trunc) for item in found_in(files_of(settings)) if wanted(item)]
    text = "\n".join(row["ID"] for row in rows) if quiet else render_rows(rows, shape, COLUMNS)
    if text:
        print(text)


def create(
    settings: Settings,
    name: str,
    driver: str,
    subnets: tuple[str, ...],
    gateways: tuple[str, ...],
    ip_ranges: tuple[str, ...],
    auxiliary: tuple[str, ...],
    ipv6: bool,
    internal: bool,
    attachable: bool,
    labels: tuple[str, ...],
    options: tuple[str, ...],
) -> None:
    """Make a network that projects share, and print its id."""
    check_name(name)
    given = tuple(pair(text, "--opt") for text in options)
    reserved = dict(pair(text, "--aux-address") for text in auxiliary)
    ranges = _ranges(subnets, gateways, ip_ranges, tuple(reserved.values()))
    ipv6 = ipv6 or any(":" in item.subnet for item in ranges)
    try:
        parse_options(driver, given, ipv6)
    except BadOption as exc:
        raise InputError(str(exc), hint=exc.hint, place=f"--opt {exc.key}") from None
    wanted = SharedNetwork(
        name,
        subnets=ranges,
        internal=internal,
        driver=driver,
        options=given,
        labels=marks_of(labels),
        auxiliary=reserved,
        attachable=attachable,
    )
    files = files_of(settings)
    for path in (files.data_root, files.root):
        make_private(path)
    with data_lock(files.data_root):
        taken = next((item for item in found_in(files) if item.name == name and item.project), None)
        if taken is not None:
            raise OperationError(
                f'project {taken.project} has a network of its own called "{name}"', hint="choose another name"
            )
        print(shared_creation.create(files, wanted, (4, 6) if ipv6 else (4,)).identity)


def _ranges(
    subnets: Sequence[str], gateways: Sequence[str], ip_ranges: Sequence[str], reserved: Sequence[str]
) -> tuple[Subnet, ...]:
    """Each option with the subnet that it is in. Raises InputError."""
    found: dict[int, Subnet] = {}
    for text in subnets:
        where = _parsed(Subnet(text))
        if where.version in found:
            raise InputError(f"there is an IPv{where.version} subnet already: one of each family", place=f"--subnet {text}")
        found[where.version] = Subnet(
            text,
            next(iter(_inside(where.version, gateways, "--gateway")), None),
            next(iter(_inside(where.version, ip_ranges, "--ip-range")), None),
            tuple(_inside(where.version, reserved)),
        )
    for option, texts in (("--gateway", gateways), ("--ip-range", ip_ranges), ("--aux-address", reserved)):
        for text in texts:
            if (6 if ":" in text else 4) not in found:
                raise InputError(f"{text} needs a --subnet that it is in", place=option)
    for item in found.values():
        _parsed(item)
    return tuple(found[version] for version in sorted(found))


def _inside(version: int, texts: Sequence[str], single: str = "") -> list[str]:
    """Those of one family. `single`: the option, of which there may be one for each."""
    found = [text for text in texts if (6 if ":" in text else 4) == version]
    if single and len(found) > 1:
        raise InputError(f"{found[0]} and {found[1]}: one for each subnet", place=single)
    return found


def _parsed(written: Subnet) -> AddressRange:
    try:
        return parse_range(written)
    except BadRange as exc:
        raise InputError(str(exc), hint=exc.hint, place=_PLACES[exc.key]) from None


def inspect(settings: Settings, names: tuple[str, ...], shape: str | None) -> None:
    """Show all that is known of networks."""
    print(render_values([values_of(item) for item in require(found_in(files_of(settings)), names)], shape))


def remove(settings: Settings, names: tuple[str, ...], force: bool) -> None:
    """Remove shared networks; all of them or none."""
    files = files_of(settings)
    if force:
        known = {word for item in found_in(files) for word in (item.name, item.about.identity)}
        names = tuple(name for name in names if any(word.startswith(name) for word in known))
    if not names or not files.names():
        for network in require(found_in(files), names):
            _check_unused(network)
        return
    with data_lock(files.data_root):
        networks = require(found_in(files, sound=True), names)
        for network in networks:
            _check_unused(network)
        for network in networks:
            shared_creation.remove(files, network.name)
            print(escape_line(network.name))


def _check_unused(network: Found) -> None:
    if network.project:
        raise OperationError(
            f'network "{network.name}" is project {network.project}\'s own',
            hint=f"it goes with the project: pystack -p {network.project} down",
        )
    if network.users:
        containers = "container" if len(network.users) == 1 else "containers"
        users = ", ".join(f"{user.container} of project {user.project}" for user in network.users)
        raise OperationError(
            f'network "{network.name}" is in use by {containers} {users}',
            hint=f"remove what uses it first: pystack -p {network.users[0].project} down",
        )


def prune(settings: Settings, filters: tuple[str, ...], force: bool) -> None:
    """Remove shared networks that no container is on."""
    wanted = filters_of(filters, ("label", "label!", "until"))
    files = files_of(settings)
    if not force:
        confirm("networks", "This removes all shared networks that no container is on.")
    removed = _prune(files, wanted) if files.names() else []
    if removed:
        print("Deleted Networks:\n" + "\n".join(map(escape_line, removed)))


def _prune(files: SharedFiles, wanted: Callable[[Found], bool]) -> list[str]:
    removed = []
    with data_lock(files.data_root):
        for network in found_in(files, sound=True):
            if not network.project and not network.users and wanted(network):
                with suppress(InUse):
                    shared_creation.remove(files, network.name)
                    removed.append(network.name)
    return removed
