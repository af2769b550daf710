"""``pystack enable`` and ``disable``: the project comes up with the machine, as it was wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from orchestrator.cli.boot import SCRIPTS, TARGET, UNITS, Boot, links, script, unit
from orchestrator.cli.failures import note
from orchestrator.cli.settings import Settings
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, InputError, PystackError
from orchestrator.kernel.atomic import replace_file
from orchestrator.state.directory import data_root_of

_RUNS_SYSTEMD = "run/systemd/system"
"""There while systemd is the init of the machine (sd_booted(3))."""
_KEPT = ("PYSTACK_RUN_DIR", "PYTHONPATH", "DOCKER_HOST", "DOCKER_CONFIG", "COMPOSE_PROFILES")


def enable(settings: Settings, init: bool, root: str) -> None:
    """Bring the project up when the machine does. What was stopped by hand stays stopped."""
    site = settings.site()
    boot = _boot(settings, site)
    if not init and not _has_systemd(root):
        raise InputError("this machine does not run systemd", hint="`pystack enable --init` writes an init script")
    try:
        written = _write_script(boot, root) if init else _write_unit(boot, root)
    except OSError as exc:
        raise HostError(f"cannot write {exc.filename}: {exc.strerror}", hint="run it as root") from exc
    _tell_init(boot, root, init=init, begins=True)
    print(f"project {site.project} comes up with the machine: {written}")
    if not os.path.exists(os.path.join(site.data_dir, "wanted.json")):
        note(f"nothing of project {site.project} is up yet", "`pystack up -d` says what is to come up")


def disable(settings: Settings, root: str) -> None:
    """Do not bring the project up with the machine any more. What runs goes on."""
    site = settings.site()
    boot = Boot(site.project, (), None, (), "/", ())
    unit_path, script_path = (_in(root, UNITS, boot.unit_name), _in(root, SCRIPTS, boot.script_name))
    others = [_in(root, UNITS, f"{TARGET}.wants", boot.unit_name), *(_in(root, link) for link in links(boot.script_name))]
    removed = []
    try:
        for path in (unit_path, script_path, *others):
            with suppress(FileNotFoundError):
                os.unlink(path)
                removed.append(path)
    except OSError as exc:
        raise HostError(f"cannot remove {exc.filename}: {exc.strerror}", hint="run it as root") from exc
    if not removed:
        print(f"project {site.project} does not come up with the machine: nothing to remove")
        return
    _tell_init(boot, root, init=script_path in removed, begins=False)
    print(f"project {site.project} does not come up with the machine any more: removed {removed[0]}")


def _boot(settings: Settings, site: Site) -> Boot:
    """What this command was given, with absolute paths, for a command that begins nowhere."""
    data_root = os.path.abspath(data_root_of(site))
    command = (sys.executable, "-P", "-m", "orchestrator.cli", "--data-dir", data_root, "--project-name", site.project)
    folder = ""
    with suppress(PystackError):  # Without files there is nothing to read again.
        folder = settings.origin()[0]
    directory = os.path.abspath(folder or settings.project_directory or os.getcwd())
    options: list[str] = []
    for name, paths in (("--file", settings.files), ("--env-file", settings.env_files)):
        options += [word for path in paths for word in (name, os.path.abspath(path) if path != "-" else path)]
    if settings.project_directory:
        options += ["--project-directory", os.path.abspath(settings.project_directory)]
    options += [word for profile in settings.profiles for word in ("--profile", profile)]
    passing = any(path == "-" or path.startswith(("/dev/", "/proc/")) for path in settings.files)
    files = None if passing else tuple(options)  # What is a pipe now cannot be read again.
    kept = tuple((name, settings.environ[name]) for name in _KEPT if settings.environ.get(name))
    return Boot(site.project, command, files, kept, directory, tuple(dict.fromkeys((directory, data_root))))


def _has_systemd(root: str) -> bool:
    return os.path.isdir(_in(root, _RUNS_SYSTEMD)) or (root != "/" and os.path.isdir(_in(root, UNITS)))


def _in(root: str, *parts: str) -> str:
    return os.path.join(root, *parts)


def _write_unit(boot: Boot, root: str) -> str:
    path = _in(root, UNITS, boot.unit_name)
    wants = _in(root, UNITS, f"{TARGET}.wants")
    os.makedirs(wants, mode=0o755, exist_ok=True)
    replace_file(path, unit(boot).encode(), mode=0o644)
    _link(f"../{boot.unit_name}", os.path.join(wants, boot.unit_name))
    return path


def _write_script(boot: Boot, root: str) -> str:
    path = _in(root, SCRIPTS, boot.script_name)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    replace_file(path, script(boot).encode(), mode=0o755)
    if root != "/" or not _carried_out("update-rc.d", boot.script_name, "defaults"):
        for link in links(boot.script_name):
            os.makedirs(os.path.dirname(_in(root, link)), mode=0o755, exist_ok=True)
            _link(f"../init.d/{boot.script_name}", _in(root, link))
    return path


def _link(target: str, path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(target, path)


def _tell_init(boot: Boot, root: str, *, init: bool, begins: bool) -> None:
    """What runs now learns of it: systemd reads its units again, and takes the project as started, which it is."""
    if root != "/":
        return
    if init:
        if not begins:
            _carried_out("update-rc.d", boot.script_name, "remove")
        return
    if os.path.isdir(_in("/", _RUNS_SYSTEMD)):
        _carried_out("systemctl", "daemon-reload")
        if begins:  # Or it would not stop the project when the machine goes down.
            _carried_out("systemctl", "start", "--no-block", boot.unit_name)


def _carried_out(*command: str) -> bool:
    """Whether there is such a program, and it did it."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False
