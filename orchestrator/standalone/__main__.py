"""``python -m orchestrator.standalone``."""

from orchestrator.standalone.start import start

start()
