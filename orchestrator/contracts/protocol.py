"""The figures of the control protocol (docs/control-protocol.md) that both of its sides must agree on.

Apart from `contracts.control`, because whoever only carries messages needs none of the values in them.
"""

from __future__ import annotations

VERSION = 2
"""Version 1 is spoken by supervisors and commands of pystack 0.1."""
MAX_MESSAGE_BYTES = 8 << 20
"""One message, its newline included."""
MAX_DESCRIPTORS = 8
"""With one request."""
ACK_TIMEOUT_S = 5.0
"""From a request to its acknowledgement, the first sign of life."""
BEAT_S = 3.0
"""Between two signs of life while a request is worked on."""
SILENCE_TIMEOUT_S = 20.0
"""Without any sign of life during a request: several beats, so that a busy machine is not taken for a dead supervisor."""
UNTIMED = frozenset({"events", "exec", "attach"})
"""Verbs without beats: they last as long as somebody watches or a process runs, and nobody waits for their end."""
