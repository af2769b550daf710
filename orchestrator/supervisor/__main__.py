"""``python -m orchestrator.supervisor``: see `main`."""

import sys

from orchestrator.supervisor.main import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
