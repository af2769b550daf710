"""What the world talks to. Once in its life it stops being healthy, without noticing it itself."""

import os
import urllib.error
import urllib.request

from answers import first_time, serve

sickens = first_time("sickened")


def health(probes):
    return 503 if sickens and probes > 15 else 200


def answer(path):
    try:
        with urllib.request.urlopen(os.environ["GREETER"] + path, timeout=5) as reply:
            return 200, reply.read().decode()
    except (urllib.error.URLError, OSError) as error:
        return 502, f"the greeter does not answer: {error}\n"


serve(answer, health)
