"""Whether this process takes in the orphans of its monitors."""

from __future__ import annotations

from orchestrator.kernel.process import set_child_subreaper


class Adopting:
    """This process is the subreaper of what its monitors leave while it has any runtime open; whoever reaps nothing must
    not go on adopting orphans."""

    runtimes = 0
    before = False

    @classmethod
    def begin(cls) -> None:
        if cls.runtimes == 0:
            cls.before = set_child_subreaper()
        cls.runtimes += 1

    @classmethod
    def end(cls) -> None:
        cls.runtimes -= 1
        if cls.runtimes == 0:
            set_child_subreaper(cls.before)
