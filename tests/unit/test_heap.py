"""One heap for all threads: none has a reserve of 64 MiB of its own (HEAP_MAX_SIZE of the GNU C library)."""

from __future__ import annotations

import subprocess
import sys

from tests.machine import ROOT

PROGRAM = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from orchestrator.kernel import heap
if sys.argv[2] == "shared":
    heap.share()
together = threading.Barrier(4)
def work():
    kept = [bytes(2000) for _ in range(100)]
    together.wait()
    together.wait()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
together.wait()
words = [line.split() for line in open("/proc/self/maps")]
sizes = [[int(end, 16) for end in word[0].split("-")] for word in words if word[1] == "---p"]
print(sum(60 << 20 < end - begin < 64 << 20 for begin, end in sizes))
together.wait()
"""


def reserves(how: str) -> int:
    words = [sys.executable, "-c", PROGRAM, str(ROOT), how]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def test_threads_share_a_heap() -> None:
    assert (reserves("as it is"), reserves("shared")) == (3, 0)
