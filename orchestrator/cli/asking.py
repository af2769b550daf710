"""A question before something is removed."""

from __future__ import annotations

import sys


def agreed(question: str) -> bool | None:
    """Whether the next line of stdin says yes, whoever writes it (``yes | pystack rm``). None: there is nobody to ask."""
    if sys.stdin.isatty():
        print(question, end="", file=sys.stderr, flush=True)
        return _says_yes(sys.stdin.readline())
    try:
        answer = sys.stdin.readline()
    except (OSError, ValueError):  # A directory, what was opened for writing alone, or no text.
        return None
    if not answer:
        return None
    print(question, file=sys.stderr)
    return _says_yes(answer)


def _says_yes(answer: str) -> bool:
    return answer.strip().lower() in ("y", "yes")
