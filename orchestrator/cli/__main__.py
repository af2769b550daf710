"""``python -m orchestrator.cli``: the same as ``pystack``."""

from __future__ import annotations

from orchestrator.cli.start import start

if __name__ == "__main__":
    start()
