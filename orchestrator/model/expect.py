"""What a stack expects of itself (``x-pystack.expect``): claims about a simulation, which `pystack simulate` judges."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.values import frozen

NEVER: Mapping[str, str] = {
    "failed": "a container is given up",
    "blocked": "a container is not started because of another",
    "unhealthy": "a container becomes unhealthy",
    "exited": "a run ends by itself",
    "restarted": "a container is started again by its policy",
}
"""What may never happen -> what that means."""
EVENTUALLY: Mapping[str, str] = {
    "running": "all its containers run, or have ended with code 0",
    "healthy": "all its containers run and are healthy, where they have a health check",
    "completed": "all its containers have ended with code 0",
    "stopped": "none of its containers runs",
}
"""What is so in the end -> what that means."""


@frozen
class Claim:
    """`word`: of `NEVER` or `EVENTUALLY`. `service` "": about each. `place`: where it stands in the stack, or ""."""

    word: str
    service: str = ""
    place: str = ""

    def __str__(self) -> str:
        return f"{self.service} {self.word}".strip()


@frozen
class Expect:
    """`ready_within_s`: by when all is ready that is brought up. `restarts_at_most`: of all containers together. What is
    None or empty is not claimed."""

    ready_within_s: float | None = None
    never: tuple[Claim, ...] = ()
    eventually: tuple[Claim, ...] = ()
    restarts_at_most: int | None = None


def parse_claim(text: str, words: Mapping[str, str], place: str = "") -> Claim:
    """``WORD`` or ``SERVICE WORD``. Raises ValueError."""
    match text.split():
        case [word] if word in words:
            return Claim(word, place=place)
        case [service, word] if word in words:
            return Claim(word, service, place)
    raise ValueError(f'"{text}" is not WORD or SERVICE WORD, where WORD is one of {", ".join(words)}')
