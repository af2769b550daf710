"""pystack: `docker compose up` without Docker.

The layers of this package, and who may import whom, are in docs/architecture.md; tests/test_architecture.py
enforces them.
"""

__version__ = "0.2.0"
