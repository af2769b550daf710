"""What the first process of a container is to do, as values: made by `starting`, carried out by `first_process`."""

from __future__ import annotations

from orchestrator.kernel import constants as c
from orchestrator.standalone.hooks import Hook
from orchestrator.standalone.identities import Identity
from orchestrator.values import entity, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
else:  # Both would make enumerations of all that they have
    import _socket as socket


@entity
class Mount:
    """`tree` >= 0: prepared already. Otherwise a new file system of `kind`, or, with `fallback`, the host's where the
    container may not have one of its own (``proc``, ``sysfs`` in a user namespace)."""

    target: bytes
    about: bytes
    tree: int = -1
    kind: bytes = b""
    data: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    set_: int = 0
    clear: int = 0
    tree_set: int = 0
    tree_clear: int = 0
    propagation: tuple[int, bool] | None = None
    copy_up: bool = False
    mode_of_target: bool = False
    """A tmpfs of which nothing is said has the permissions of the directory that it covers."""
    fallback: bytes = b""
    directory: bool = True
    source: bytes = b""
    link: bytes = b""
    """Not a mount but a link to this. Neither this nor a kind nor a tree: the mount that is there gets `set_`."""
    old_way: bytes = b""
    """Options for mount(2), for file systems that the new way cannot tell as much."""


@entity
class Device:
    """`tree` >= 0: the host's node, to be mounted there (in a user namespace nothing can be made)."""

    path: bytes
    about: bytes
    mode: int
    device: int
    uid: int = 0
    gid: int = 0
    tree: int = -1


@entity
class Plan:
    """All of it, in the order of the steps."""

    listener: socket.socket | None
    root: int
    identity: Identity
    new_user: bool = False
    new_cgroup: bool = False
    own_mounts: bool = True
    """It has a mount namespace, new or by path. Without one its root is attached nowhere (Linux 6.15)."""
    mount_path: int = -1
    keyring: bool = True
    new_network: bool = False
    hostname: bytes = b""
    domainname: bytes = b""
    host_propagation: int = c.MS_SLAVE
    root_propagation: tuple[int, bool] | None = None
    root_read_only: bool = False
    mounts: list[Mount] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    dev_links: bool = True
    masked: list[bytes] = field(default_factory=list)
    read_only: list[bytes] = field(default_factory=list)
    sysctls: list[tuple[bytes, bytes]] = field(default_factory=list)
    bundle: str = ""
    shown_at: str = ""
    """Where the root is to be seen by hooks, until it is all that there is. "": nobody looks."""
    create_hooks: list[Hook] = field(default_factory=list)
    start_hooks: list[Hook] = field(default_factory=list)
    state: dict[str, bytes] = field(default_factory=dict)
    """Status -> the state for hooks, with %d for the pid."""
    terminal: bool = False
    console: socket.socket | None = None
    size: tuple[int, int] | None = None
    pivot: bool = True
