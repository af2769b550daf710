"""The exit codes that only the command line has; the others are in `orchestrator.errors`. All: docs/exit-codes.md."""

from __future__ import annotations

from orchestrator.errors import EXIT_RUNTIME

EXIT_BUG = EXIT_RUNTIME
EXIT_PIPE_CLOSED = 141
"""128 + SIGPIPE: whoever read our output has gone (``pystack logs | head``)."""
