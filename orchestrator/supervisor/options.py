"""A supervisor's command line. It is ours alone, so it is read without `argparse`, whose import would take longer."""

from __future__ import annotations

from orchestrator.launch import supervisor_argv
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@frozen
class Options:
    """`go_fd`: a pipe whose other end gives the word to begin (`orchestrator.launch`). `ready_fd`: a pipe for the first
    answer. Both None for one that the monitor starts again."""

    data_dir: str
    run_dir: str
    project: str
    go_fd: int | None = None
    ready_fd: int | None = None

    @property
    def argv(self) -> tuple[str, ...]:
        """How the monitor starts a supervisor again that was killed."""
        return supervisor_argv(self.data_dir, self.run_dir, self.project)


def parse(argv: Sequence[str]) -> Options:
    """Raises ValueError for what `launch.supervisor_argv` does not write."""
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    numbers = {name: int(given.pop(f"--{name}-fd")) for name in ("go", "ready") if f"--{name}-fd" in given}
    try:
        own = {"data_dir": given.pop("--data-dir"), "run_dir": given.pop("--run-dir"), "project": given.pop("--project")}
    except KeyError as exc:
        raise ValueError(f"{exc.args[0]} is missing") from None
    if given:
        raise ValueError(f"{min(given)} is not an option of the supervisor")
    return Options(**own, go_fd=numbers.get("go"), ready_fd=numbers.get("ready"))
