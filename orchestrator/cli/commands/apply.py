"""``pystack apply FILE``: carry out a plan that ``plan -o`` has written, and no other."""

from __future__ import annotations

import time

from orchestrator.cli import planfile
from orchestrator.cli.connection import explain_unknown
from orchestrator.cli.operation import Operation, report_failures, report_left
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.settings import Settings
from orchestrator.client import ensure_supervisor
from orchestrator.contracts.control import Apply
from orchestrator.contracts.site import Site
from orchestrator.errors import PystackError
from orchestrator.plan.seal import check_seal

_END_TIMEOUT_S = 10.0


def apply(settings: Settings, path: str) -> None:
    """Do what the plan in the file at `path` says, if it is still the plan. Raises MovedError, and nothing is done then."""
    began_s = time.monotonic()
    plan = planfile.read(path)
    settings = planfile.resettled(settings, plan)
    site, wanted, stack = planfile.requested(settings, plan.asked)
    check_seal(plan.stack, planfile.stack_of(stack))
    request = Apply(planfile.to_apply(settings, wanted), plan.seal)
    board = Board(stack.services if stack is not None and plan.asked.verb == "up" else ())
    progress = choose(settings.terminal(), f"{plan.asked.verb} {site.project}", board)
    client, _ = ensure_supervisor(site, settings.begun)
    with client:
        try:
            result = Operation(client, request, progress, board).run()
        except PystackError as error:
            progress.close()
            report_failures(site, board, progress)
            if len(board.failed()):
                report_left(site, board, progress)
            raise explain_unknown(settings, error, plan.asked.services) from None
        finally:
            progress.close()
        if plan.asked.verb == "down" and not result.get("statuses"):
            client.close_and_wait_end(_END_TIMEOUT_S)
            _give_back(site, plan)
    number = result.get("changed", 0)
    noun = "container" if number == 1 else "containers"
    done = f"{number} {noun} changed in {time.monotonic() - began_s:.2f} s" if number else "nothing had to change"
    progress.summary(f"{plan.asked.verb} {site.project}: {done}", result)


def _give_back(site: Site, plan: planfile.PlanFile) -> None:
    """The project's own loopback address, as `down` does."""
    from orchestrator.state.directory import data_root_of
    from orchestrator.state.loopback import give_back

    if not plan.asked.services:
        give_back(data_root_of(site), site.project)
