"""``pystack``: the verbs, the global options, and how a command ends.

A verb is a row of `VERBS`; its module is imported when it is invoked, and never for ``--help``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from orchestrator.cli import failures
from orchestrator.cli.settings import Settings
from orchestrator.errors import EXIT_USAGE, PystackError
from orchestrator.values import frozen


@frozen
class Verb:
    """`module` is below `orchestrator.cli.commands` and holds the click command `name`."""

    module: str
    help: str


VERBS = {
    "up": Verb("up", "Bring services up, and follow their logs until Ctrl-C."),
    "down": Verb("down", "Stop and remove everything of the project."),
    "ps": Verb("ps", "List services and their state."),
    "logs": Verb("logs", "Show what services wrote."),
    "exec": Verb("exec", "Run a command in a running service."),
    "start": Verb("lifecycle", "Start stopped services."),
    "stop": Verb("lifecycle", "Stop services, keeping their files and addresses."),
    "restart": Verb("lifecycle", "Stop and start services."),
    "kill": Verb("lifecycle", "Send a signal to services."),
    "why": Verb("why", "Explain why a service is as it is."),
    "plan": Verb("plan", "Show what a verb would do, and why."),
    "config": Verb("config", "Check the compose files and print them resolved."),
    "lint": Verb("lint", "Advice about the compose files: mistakes and risks."),
    "events": Verb("events", "Follow what happens in the project."),
    "doctor": Verb("doctor", "Check what this machine can do."),
    "version": Verb("version", "Show the version."),
}


class _Ended(Exception):
    """A command that ended by Ctrl-C or a closed pipe; carries the code past click, which has its own ideas."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


class LazyGroup(click.Group):
    """A group whose commands are imported when they are invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        module = import_module(f"orchestrator.cli.commands.{verb.module}")
        command = getattr(module, cmd_name.replace("exec", "exec_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            from orchestrator.cli.selection import nearest

            close = nearest(args[0], VERBS)
            message = f'"{args[0]}" is not a verb' + (f' (did you mean "{close}"?)' if close else "")
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _Ended(failures.report_cancelled()) from None
        except BrokenPipeError:
            raise _Ended(failures.report_pipe_closed()) from None


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`pystack VERB --help` explains a verb. Documentation: docs/cli.md.",
)
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="Compose file; may be repeated, - is stdin.")
@click.option("-p", "--project-name", metavar="NAME", help="Project name.")
@click.option("--project-directory", metavar="DIR", help="Directory relative paths start from.")
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Profile to enable; may be repeated.")
@click.option("--env-file", "env_files", multiple=True, metavar="FILE", help="Instead of .env; may be repeated.")
@click.option(
    "--ansi",
    type=click.Choice(["never", "always", "auto"]),
    default="auto",
    envvar="COMPOSE_ANSI",
    help="Colours and cursor movement.",
)
@click.option(
    "--progress",
    type=click.Choice(["auto", "tty", "plain", "quiet", "json"]),
    default="auto",
    envvar="COMPOSE_PROGRESS",
    help="How progress is shown (on stderr).",
)
@click.option("--data-dir", envvar="PYSTACK_DATA_DIR", metavar="DIR", help="Where pystack keeps its files.")
@click.pass_context
def cli(
    ctx: click.Context,
    files: tuple[str, ...],
    project_name: str | None,
    project_directory: str | None,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    ansi: str,
    progress: str,
    data_dir: str | None,
) -> None:
    """Bring up a compose file's services as real containers. No Docker, no daemon."""
    ctx.obj = Settings(
        files=files,
        project_name=project_name,
        project_directory=project_directory,
        profiles=profiles,
        env_files=env_files,
        ansi=ansi,
        progress=progress,
        data_root=data_dir,
        environment=dict(os.environ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(argv, prog_name="pystack", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except _Ended as ended:
        return ended.exit_code
    except PystackError as error:
        return failures.report(error, as_json=_wants_json(argv))
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "pystack"
        failures.report_usage(error.format_message(), f"`{path} --help` lists what it takes")
        return EXIT_USAGE
    except click.ClickException as error:
        failures.report_usage(error.format_message(), None)
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        return failures.report_cancelled()
    except BrokenPipeError:
        return failures.report_pipe_closed()
    except Exception as error:
        return failures.report_bug(error)


def _wants_json(argv: Sequence[str]) -> bool:
    """Whether errors are JSON too. Read from the arguments: an error may come before or after the options are known."""
    pairs = zip(argv, [*argv[1:], ""])
    asked = any(word == "--progress=json" or (word, value) == ("--progress", "json") for word, value in pairs)
    return asked or os.environ.get("COMPOSE_PROGRESS") == "json"
