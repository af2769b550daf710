"""Credentials are read and kept as Docker, Podman and skopeo do."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InputError, OperationError
from orchestrator.images.registry import credentials as credentials_module
from orchestrator.images.registry.credentials import Credential, Credentials

STORE = """#!/bin/sh
# A credential program that keeps one secret for each server in a directory.
dir="$(dirname "$0")/kept"; mkdir -p "$dir"
key() { printf %s "$1" | tr ':/' '__'; }
case "$1" in
    get) read -r server || true; file="$dir/$(key "$server")"
        if [ -e "$file" ]; then cat "$file"; else printf 'credentials not found in native keychain\\n'; exit 1; fi ;;
    store) input=$(cat); server=$(printf %s "$input" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/')
        printf %s "$input" >"$dir/$(key "$server")" ;;
    erase) read -r server || true; rm "$dir/$(key "$server")" ;;
esac
"""


def auth(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def docker(tmp_path: Path, document: Any) -> Credentials:
    """Those of somebody whose Docker configuration is this."""
    (tmp_path / "docker").mkdir(exist_ok=True)
    (tmp_path / "docker/config.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return Credentials(environment(tmp_path))


def environment(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "docker"), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}


def program(tmp_path: Path, name: str, script: str) -> None:
    path = tmp_path / "bin" / f"docker-credential-{name}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("registry", "repository", "expected"),
    [
        ("docker.io", "library/redis", Credential("hub", "h:ub")),
        ("localhost:5000", "", Credential("local", "pw")),
        ("plain.example", "", Credential("ann", "secret")),
        ("token.example", "", Credential("", "", "refresh")),
        ("quay.io", "team/app", Credential("team", "t")),
        ("quay.io", "other/app", Credential("all", "a")),
        ("quay.io", "team2/app", Credential("all", "a")),
        ("nobody.example", "", None),
        ("empty.example", "", None),
    ],
)
def test_auths_are_found_by_registry_and_repository(
    tmp_path: Path, registry: str, repository: str, expected: Credential | None
) -> None:
    found = docker(
        tmp_path,
        {
            "auths": {
                "https://index.docker.io/v1/": {"auth": auth("hub", "h:ub")},
                "http://localhost:5000": {"auth": auth("local", "pw")},
                "plain.example": {"username": "ann", "password": "secret"},
                "token.example": {"auth": auth("x", ""), "identitytoken": "refresh"},
                "quay.io/team": {"auth": auth("team", "t")},
                "quay.io": {"auth": auth("all", "a")},
                "empty.example": {},
            }
        },
    ).find(registry, repository)
    expected = Credential("x", "", "refresh") if registry == "token.example" else expected
    assert found == expected


def test_files_are_looked_through_in_order(tmp_path: Path) -> None:
    docker(tmp_path, {"auths": {"b": {"auth": auth("docker", "x")}, "c": {"auth": auth("docker", "x")}}})
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"b": {"auth": auth("file", "x")}}}))
    (tmp_path / "run/containers").mkdir(parents=True)
    more = {"c": {"auth": auth("run", "x")}, "d": {"auth": auth("run", "x")}}
    (tmp_path / "run/containers/auth.json").write_text(json.dumps({"auths": more}))
    extra = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    credentials = Credentials(environment(tmp_path) | extra)
    assert [getattr(credentials.find(name), "user", None) for name in "bcde"] == ["file", "docker", "run", None]


def test_a_login_is_stored_as_docker_does_and_nothing_else_is_lost(tmp_path: Path) -> None:
    credentials = docker(tmp_path, {"auths": {"a": {"auth": auth("a", "a"), "email": "x@y"}}, "psFormat": "table", "z": 1})
    (tmp_path / "docker/config.json").chmod(0o644)
    warning = credentials.store("docker.io", Credential("me", "pässword"))
    kept = json.loads((tmp_path / "docker/config.json").read_text())
    assert kept["auths"]["https://index.docker.io/v1/"] == {"auth": auth("me", "pässword")}
    assert (kept["auths"]["a"]["email"], kept["psFormat"], kept["z"]) == ("x@y", "table", 1)
    assert (tmp_path / "docker/config.json").stat().st_mode & 0o777 == 0o600
    assert "plain text" in warning
    assert credentials.find("docker.io") == Credential("me", "pässword")
    assert credentials.erase("docker.io")
    assert not credentials.erase("docker.io")
    assert json.loads((tmp_path / "docker/config.json").read_text())["auths"].keys() == {"a"}


def test_the_first_login_makes_the_file(tmp_path: Path) -> None:
    credentials = Credentials(environment(tmp_path))
    assert not credentials.erase("localhost:5000")
    credentials.store("localhost:5000", Credential("me", "pw"))
    assert credentials.find("localhost:5000") == Credential("me", "pw")
    assert (tmp_path / "docker").stat().st_mode & 0o777 == 0o700


def test_logins_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    names = [f"r{number}.example" for number in range(12)]
    store = Credentials(environment(tmp_path)).store
    work = [threading.Thread(target=store, args=(name, Credential("me", name))) for name in names]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert [Credentials(environment(tmp_path)).find(name) for name in names] == [Credential("me", name) for name in names]


@pytest.mark.parametrize(
    "document", [{"credsStore": "box"}, {"credHelpers": {"a.example": "box"}, "credsStore": "missing"}]
)
def test_a_credential_program_keeps_them(tmp_path: Path, document: dict[str, Any]) -> None:
    program(tmp_path, "box", STORE)
    credentials = docker(tmp_path, document)
    assert credentials.find("a.example") is None
    assert credentials.store("a.example", Credential("me", "pw")) == ""
    assert credentials.find("a.example") == Credential("me", "pw")
    assert "auths" not in json.loads((tmp_path / "docker/config.json").read_text())
    assert credentials.erase("a.example")
    assert not credentials.erase("a.example")
    credentials.store("a.example", Credential(identity_token="refresh"))
    assert credentials.find("a.example") == Credential(identity_token="refresh")


def test_what_is_listed_counts_where_the_program_has_nothing(tmp_path: Path) -> None:
    program(tmp_path, "box", STORE)
    credentials = docker(tmp_path, {"credsStore": "box", "auths": {"a.example": {"auth": auth("me", "pw")}}})
    assert credentials.find("a.example") == Credential("me", "pw")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("#!/bin/sh\necho no bus >&2; exit 3\n", "failed with status 3: no bus"),
        ("#!/bin/sh\necho '[1]'\n", "gave no credentials"),
        ("", "cannot be run"),
    ],
)
def test_a_program_that_fails_is_one_error(tmp_path: Path, script: str, says: str) -> None:
    program(tmp_path, "box", script)
    with pytest.raises(OperationError, match=says):
        docker(tmp_path, {"credsStore": "box"}).find("a.example")


def test_a_program_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials_module, "PROGRAM_LIMIT_S", 0.2)
    program(tmp_path, "box", "#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(OperationError, match=r"did not end within 0\.2 s"):
        docker(tmp_path, {"credsStore": "box"}).find("a.example")


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="docker-credential-nowhere is not there") as caught:
        docker(tmp_path, {"credsStore": "nowhere"}).find("a.example")
    assert caught.value.hint


def test_a_program_is_a_name_and_no_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no name of a credential program"):
        docker(tmp_path, {"credsStore": "../../bin/sh"}).find("a.example")


@pytest.mark.parametrize(
    "document", ["{", "[]", '{"auths": []}', '{"credsStore": {}}', '{"auths": {"a": {"auth": "###"}}}',
    json.dumps({"auths": {"a": {"auth": base64.b64encode(b"nocolon").decode()}}}), "[" * 100_000]
)  # fmt: skip
def test_a_file_that_is_something_else_is_told(tmp_path: Path, document: str) -> None:
    with pytest.raises(InputError) as caught:
        docker(tmp_path, document).find("a")
    assert caught.value.place == str(tmp_path / "docker/config.json")
    assert "nocolon" not in str(caught.value)


def test_passwords_are_not_shown() -> None:
    assert "pw" not in repr(Credential("me", "pw", "pw"))
