"""registries.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.images.registry.settings import Bounds, Endpoint, Settings, is_loopback, is_registry, load_settings


def environ(tmp_path: Path, system: str | None = None, user: str | None = None) -> dict[str, str]:
    """Of somebody whose system and home have these files."""
    for name, text in (("system", system), ("home/.config/pystack", user)):
        (tmp_path / name).mkdir(parents=True)
        if text is not None:
            (tmp_path / name / "registries.toml").write_text(text)
    return {"PYSTACK_CONFIG_DIR": str(tmp_path / "system"), "HOME": str(tmp_path / "home")}


def test_without_files_there_are_the_defaults(tmp_path: Path) -> None:
    assert load_settings(environ(tmp_path)) == Settings()


def test_the_user_s_values_count_more_and_the_others_stay(tmp_path: Path) -> None:
    system = '[limits]\ndownloads = 2\nattempts = 9\n[registry."a.example"]\ninsecure = true\nca = "/ca.crt"\n'
    user = '[limits]\ndownloads = 6\n[registry."a.example"]\ninsecure = false\n[registry."docker.io"]\nmirrors = ["m"]\n'
    found = load_settings(environ(tmp_path, system, user))
    assert found.bounds == Bounds(downloads=6, attempts=9)
    assert (found.of("a.example").insecure, found.of("a.example").ca) == (False, "/ca.crt")
    assert found.of("docker.io").mirrors == ("m",)


def test_mirrors_come_before_the_registry_itself(tmp_path: Path) -> None:
    mirrors = '["https://mirror.example/hub", "127.0.0.1:5000", "http://plain.example:80/a/b/"]'
    found = load_settings(environ(tmp_path, f'[registry."docker.io"]\nmirrors = {mirrors}\n'))
    assert found.endpoints("docker.io") == (
        Endpoint("mirror.example", "mirror.example", "https", "hub/"),
        Endpoint("127.0.0.1:5000", "127.0.0.1:5000", "", "", plain=True),
        Endpoint("plain.example:80", "plain.example:80", "http", "a/b/", plain=True),
        Endpoint("docker.io", "registry-1.docker.io"),
    )


def test_only_loopback_and_insecure_registries_may_be_without_tls(tmp_path: Path) -> None:
    found = load_settings(environ(tmp_path, '[registry."lan:5000"]\ninsecure = true\n'))
    assert found.endpoint("lan:5000").plain
    assert found.endpoint("[::1]:5000").plain
    assert found.endpoint("127.9.9.9").plain
    assert not found.endpoint("lan:5001").plain
    assert not found.endpoint("docker.io").plain


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[registry."a.example"]\nmirrors = []\ninsecure = "yes"\n', 3, "insecure = 'yes': is neither true nor false"),
        ("\n[limits]\nattempts = 0\n", 3, "attempts = 0: must be 1 to 64"),
        ("[limits]\nattempts = 1.5\n", 2, "is no whole number"),
        ("[limits]\nsilence_s = 'x'\n", 2, "is no number"),
        ("[limits]\nsilence_s = -1\n", 2, "must be 0.001 to 86400 seconds"),
        ("[limits]\nspeed = 1\n", 2, '"speed" is no setting'),
        ("limits = 1\n", 1, '"limits" is no table'),
        ("registry = 1\n", 1, '"registry" is no table'),
        ('# a\n\nmirrors = ["x"]\n', 3, '"mirrors" is no setting'),
        ('[registry."a.example"]\n[registry."b_c"]\n', 2, '"b_c" is no registry'),
        ('[registry."a"]\nca = "ca.crt"\n', 2, "is no absolute path"),
        ('[registry.a]\nmirrors = [\n  "good.example",\n  "ftp://x",\n]\n', 5, "'ftp://x' is no [http[s]://]HOST[:PORT]"),
        ('[registry.a]\nmirrors = "x"\n', 2, "is no list of texts"),
        ('[registry.a]\nmirrors = ["https://user:pw@x"]\n', 2, "is no [http[s]://]HOST[:PORT]"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_settings(environ(tmp_path, text))
    assert caught.value.place == f"{tmp_path}/system/registries.toml:{line}"
    assert says in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"[limits\n", b"\xff\xfe", b"#" * 300_000], ids=["syntax", "encoding", "size"])
def test_a_file_that_is_no_toml_is_one_error(tmp_path: Path, content: bytes) -> None:
    given = environ(tmp_path)
    Path(tmp_path, "system/registries.toml").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_settings(given)
    assert caught.value.place == f"{tmp_path}/system/registries.toml"


def test_certificates_lie_where_docker_has_them_and_where_the_settings_say(tmp_path: Path) -> None:
    (tmp_path / "lan:5000").mkdir()
    for name in ("ca.crt", "b.crt", "client.key"):
        (tmp_path / "lan:5000" / name).touch()
    given = environ(tmp_path / "x", '[registry."lan:5000"]\nca = "/own.crt"\n')
    settings = Settings(registries=load_settings(given).registries, certificates=(str(tmp_path), "/nowhere"))
    found = ("/own.crt", f"{tmp_path}/lan:5000/b.crt", f"{tmp_path}/lan:5000/ca.crt")
    assert settings.authorities("lan:5000", "lan:5000") == found
    assert settings.authorities("lan", "lan") == ()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("localhost:5000", True), ("127.0.0.1:1", True), ("127.255.0.9", True), ("[::1]:5000", True)]
    + [(host, False) for host in ("128.0.0.1", "localhost.example", "127.0.0.1.example", "[::2]", "127.1", "10.0.0.1:127")],
)
def test_what_loopback_is(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a:0", "a:65536", "a:x", "[::1", "[x]", "user@host", "a..b", "ü", "a:"])
def test_what_is_no_registry(text: str) -> None:
    assert not is_registry(text)
