"""The program of a supervisor, as `orchestrator.launch` starts it: see `birth`. Compiled at each start, so it is short."""

import sys

from orchestrator.supervisor.birth import main

if __name__ == "__main__":
    main(sys.argv[1:])
