"""What is kept of what a container writes."""

from __future__ import annotations

from orchestrator.values import frozen


@frozen
class Logging:
    """`kept` False: nothing. `max_bytes`: a file that has become so large is followed by another, and `max_files` of them
    are kept; 0: there is one, and all is kept."""

    kept: bool = True
    max_bytes: int = 0
    max_files: int = 1
