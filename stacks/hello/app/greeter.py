"""Makes the sentence. Once in its life it crashes."""

import os
import urllib.request

from answers import first_time, serve

crashes = first_time("crashed")


def health(probes):
    if crashes and probes == 10:
        print("fatal: the greeting has gone missing")
        os._exit(3)
    return 200


def answer(path):
    with urllib.request.urlopen(os.environ["STORE"] + "/visit", timeout=5) as reply:
        return 200, f"Hello, visitor {reply.read().decode()}!\n"


serve(answer, health)
