"""Counts visitors, in memory. It needs half a second before it can answer, as a database does."""

import itertools
import time

from answers import serve

ready_at = time.monotonic() + 0.5
visits = itertools.count(1)


def health(probes):
    return 200 if time.monotonic() >= ready_at else 503


serve(lambda path: (200, str(next(visits))), health)
