"""The words of an OCI config that both sides use: who compiles it and who carries it out. Knows nothing of Compose."""

from __future__ import annotations

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_UMASK = 0o022
NAMESPACES = ("user", "network", "pid", "mount", "uts", "ipc", "cgroup")
"""The types that there are, in the order in which they are written."""

ANNOTATION_INIT = "pystack.init"
"""``true``: a tiny init is PID 1 and the program its child."""
ANNOTATION_MAKE_SOURCES = "pystack.bind.create"
"""Host directories of bind mounts to be made when they are missing (the short volume form), as a JSON list."""

LOWER = "lowerdir+="
"""Before each layer, topmost first, in the options of a mount of type ``overlay`` (Linux 6.8)."""
ANNOTATION_SUBPATHS = "pystack.mount.subpath"
"""Destination -> the last part of a mount's source, or the folder of an overlay, as a JSON object: it must be found without
leaving what is before it through a link."""
ANNOTATION_OWNERS = "pystack.bind.owner"
"""Destination -> one of the two below, as a JSON object: binds whose ids are mapped by the owner that the source has when a
run starts."""
OWNER_SOURCE = "source"
"""What the container's user writes belongs to the owner and group of the source."""
OWNER_BY_SOURCE = "by source"
"""So it does where that is an ordinary user; else all ids are the same numbers on both sides."""
ANNOTATION_STORAGE = "pystack.storage.bytes"
"""How large the writable layer may grow, in bytes."""

ANNOTATION_HOME = "pystack.home"
"""``default``: HOME in the environment is the home of the process's user, and nobody has asked for it: that of an exec as
another user is that user's."""

ANNOTATION_GROUPS = "pystack.groups"
"""The groups that every process of the container is in beside those of its user, as numbers between blanks: an exec as
another user is in them too."""

ORDERS = frozenset({
    ANNOTATION_STORAGE,
    ANNOTATION_GROUPS,
    ANNOTATION_HOME,
    ANNOTATION_INIT,
    ANNOTATION_MAKE_SOURCES,
    ANNOTATION_OWNERS,
    ANNOTATION_SUBPATHS,
})
"""The annotations that this runtime obeys."""

HOSTS_OWN = ("ro", "rro", "rnosuid")
"""The options of what ``image: host`` has of the machine itself (``/usr``), and of no other bind."""
