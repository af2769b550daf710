"""The words of an OCI config that both sides use: who compiles it and who carries it out. Knows nothing of Compose."""

from __future__ import annotations

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_UMASK = 0o022
NAMESPACES = ("user", "network", "pid", "mount", "uts", "ipc", "cgroup")
"""What every container has of its own."""

ANNOTATION_INIT = "pystack.init"
"""``true``: a tiny init is PID 1 and the program its child."""
ANNOTATION_MAKE_SOURCES = "pystack.bind.create"
"""Host directories of bind mounts to be made when they are missing (the short volume form), as a JSON list."""

ORDERS = frozenset({ANNOTATION_INIT, ANNOTATION_MAKE_SOURCES})
"""The annotations that this runtime obeys."""
