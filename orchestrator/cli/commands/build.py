"""``pystack build``: the images of the stack's services, from their Dockerfiles; told at once if nothing has changed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings


def build(
    settings: Settings,
    services: tuple[str, ...],
    build_args: tuple[str, ...],
    no_cache: bool,
    pull: bool,
    push: bool,
    quiet: bool,
    ssh: tuple[str, ...],
    with_dependencies: bool,
    check: bool,
    printed: bool,
) -> int:
    """Build the images of services, those that others take something from first, else all at once."""
    from orchestrator.cli.unchanged import Note

    note = None
    if not (no_cache or pull or push or ssh or check or printed or settings.dry_run or "-" in settings.files):
        note = Note(settings, {"services": services, "args": build_args, "with": with_dependencies})
        if note.tell_if_unchanged(quiet=quiet):
            return 0
    from orchestrator.cli.building import Wanted, build_services

    wanted = Wanted(services, build_args, no_cache, pull, push, quiet, ssh, with_dependencies, check, printed)
    return build_services(settings, wanted, note)
