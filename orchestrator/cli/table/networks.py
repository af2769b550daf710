"""``pystack network ...``, about the networks of all projects."""

from __future__ import annotations

from orchestrator.cli.table.shapes import CHOICE, FORMAT, INSPECT_FORMAT, TEXT, Argument, Option, Verb

_NAMES = (Argument("names", "NETWORK...", many=True, required=True),)
_NETWORK_AND_TARGET = (
    Argument("network", "NETWORK", required=True),
    Argument("target", "SERVICE|CONTAINER", required=True),
)


def _many(flags: str, name: str, help: str, metavar: str) -> Option:
    return Option(flags, name, f"{help}; may be repeated.", TEXT, metavar, many=True)


VERBS = (
    Verb(
        "ls",
        "network",
        "List networks.",
        "List the networks that projects share, and those that single projects have made.",
        options=(
            Option("-q --quiet", "quiet", "Only ids."),
            Option("--no-trunc", "no_trunc", "Whole ids."),
            _many(
                "-f --filter",
                "filters",
                "dangling=true (no container is on it), driver=NAME, id=PART, label=KEY[=VALUE], name=PART, "
                "scope=local, type=custom",
                "FILTER",
            ),
            FORMAT,
        ),
        function="list_",
    ),
    Verb(
        "create",
        "network",
        "Make a network that projects can share.",
        """Make a network that projects share: those whose stacks name it with `external: true`. Prints its id. It is
        nobody's, and stays until it is removed.
        """,
        options=(
            Option("-d --driver", "driver", "The driver.", CHOICE, default="bridge", choices=("bridge",)),
            _many("--subnet", "subnets", "Its range, one of each family; without one it is chosen", "SUBNET"),
            _many("--gateway", "gateways", "The bridge's address in a --subnet  [default: its first]", "ADDRESS"),
            _many("--ip-range", "ip_ranges", "The part of a --subnet that containers' addresses are from", "SUBNET"),
            _many("--aux-address", "auxiliary", "An address in a --subnet that no container gets", "NAME=ADDRESS"),
            Option("--ipv6", "ipv6", "With IPv6."),
            Option("--internal", "internal", "No way out."),
            Option("--attachable", "attachable", "Swarm only; noted, and every network is."),
            _many("--label", "labels", "A label", "KEY[=VALUE]"),
            _many("-o --opt", "options", "An option of the driver (docs/networking.md)", "KEY=VALUE"),
        ),
        arguments=(Argument("name", "NETWORK", required=True),),
    ),
    Verb(
        "connect",
        "connecting",
        "Put containers on a network.",
        """Put the containers of SERVICE, or one CONTAINER, of this project on another network, while they run. They stay on
        it until they are made anew: docs/networking.md, "By hand".
        """,
        options=(
            _many("--alias", "aliases", "A further name of it there", "NAME"),
            Option("--ip", "ipv4", "Its IPv4 address there.", TEXT, "ADDRESS"),
            Option("--ip6", "ipv6", "Its IPv6 address there.", TEXT, "ADDRESS"),
            _many("--link-local-ip", "link_local", "A further, link-local address", "ADDRESS"),
            _many("--link", "links", "A name that it alone has for another one there", "CONTAINER[:ALIAS]"),
            Option("--gw-priority", "gw_priority", "The network with the highest has the default route.", TEXT, "NUMBER"),
        ),
        arguments=_NETWORK_AND_TARGET,
    ),
    Verb(
        "disconnect",
        "connecting",
        "Take containers off a network.",
        """Take the containers of SERVICE, or one CONTAINER, of this project off a network, while they run. The next `up`
        puts them back on what the stack says.
        """,
        options=(Option("-f --force", "force", "Say nothing if there is no such container, or it is not on it."),),
        arguments=_NETWORK_AND_TARGET,
    ),
    Verb(
        "inspect",
        "network",
        "Show all that is known of networks.",
        "Show all that is known of networks, by name or id: also which containers are on them.",
        options=(INSPECT_FORMAT,),
        arguments=_NAMES,
    ),
    Verb(
        "rm",
        "network",
        "Remove shared networks.",
        "Remove shared networks: none of them if a container of any project, running or not, is on one.",
        options=(Option("-f --force", "force", "Say nothing of networks that do not exist."),),
        arguments=_NAMES,
        function="remove",
    ),
    Verb(
        "prune",
        "network",
        "Remove shared networks that nobody uses.",
        "Remove shared networks that no container of any project, running or not, is on.",
        options=(
            _many("--filter", "filters", "label=KEY[=VALUE], label!=KEY[=VALUE], until=INSTANT (made before)", "FILTER"),
            Option("-f --force", "force", "Do not ask."),
        ),
    ),
)
