"""Image configurations: what a container takes over of one, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.images import ImageConfig
from orchestrator.errors import InputError, OperationError
from orchestrator.images.spec.config import History, container_config, make_config, parse_config
from orchestrator.images.spec.digest import Digest, digest_of
from orchestrator.images.spec.platform import Platform
from orchestrator.model.health import HealthCheck

A = Digest("sha256:" + "a" * 64)
FULL: dict[str, Any] = {
    "User": "app:app",
    "ExposedPorts": {"80/tcp": {}, "53/UDP": {}, "8000-8010": {}},
    "Env": ["PATH=/bin", "A=b=c", "EMPTY=", "bare", "=x"],
    "Entrypoint": ["/run.sh"],
    "Cmd": ["serve"],
    "Volumes": {"/data/": {}, "log": {}, "/log": {}},
    "WorkingDir": "/srv",
    "Labels": {"k": "v", "n": None},
    "StopSignal": "9",
    "Healthcheck": {"Test": ["CMD-SHELL", "curl x"], "Interval": 5_000_000_000, "Retries": 2},
    "Shell": ["/bin/bash", "-c"],
    "OnBuild": ["COPY . ."],
    "ArgsEscaped": True,
}
S = 10**9
NULLS = dict.fromkeys(FULL)


def read(config: Any, **more: Any) -> ImageConfig:
    file = {"os": "linux", "architecture": "amd64", "config": config, "rootfs": {"type": "layers", "diff_ids": [A]}, **more}
    return container_config(parse_config(json.dumps(file).encode()))


def test_everything_a_container_takes_over() -> None:
    assert read(FULL) == ImageConfig(
        entrypoint=("/run.sh",),
        command=("serve",),
        environment={"PATH": "/bin", "A": "b=c", "EMPTY": ""},
        working_dir="/srv",
        user="app:app",
        stop_signal="SIGKILL",
        healthcheck=HealthCheck(("/bin/bash", "-c", "curl x"), interval_s=5.0, retries=2),
        volumes=("/data", "/log"),
        exposed_ports=("80/tcp", "53/udp", "8000-8010/tcp"),
        labels={"k": "v", "n": ""},
        shell=("/bin/bash", "-c"),
        on_build=("COPY . .",),
    )


@pytest.mark.parametrize("config", [{}, None, NULLS, {**NULLS, "Env": [], "WorkingDir": "", "Volumes": {}}])
def test_null_is_nothing(config: Any) -> None:
    assert read(config, history=None, created=None, author=None) == ImageConfig()


def test_texts_are_taken_for_lists_as_docker_takes_them() -> None:
    found = read({"Entrypoint": "/run.sh", "Cmd": "serve all"})
    assert (found.entrypoint, found.command) == (("/run.sh",), ("serve all",))


def test_a_working_directory_is_absolute() -> None:
    assert read({"WorkingDir": "srv/app"}).working_dir == "/srv/app"


@pytest.mark.parametrize(
    ("found", "check"),
    [
        (None, None),
        ({}, HealthCheck()),
        ({"Test": [], "Retries": 7}, HealthCheck(retries=7)),
        ({"Test": ["NONE"]}, HealthCheck(disabled=True)),
        ({"Test": ["CMD", "probe", "x"]}, HealthCheck(("probe", "x"))),
        ({"Test": ["CMD-SHELL", "probe x"]}, HealthCheck(("/bin/sh", "-c", "probe x"))),
        ({"Test": ["OTHER", "x"]}, None),
        (
            {"Test": ["CMD", "p"], "Interval": S // 1000, "Timeout": 2 * S, "StartPeriod": 3 * S, "StartInterval": 4 * S},
            HealthCheck(("p",), 0.001, 2.0, 0, 3.0, 4.0),
        ),
        ({"Test": ["CMD", "p"], "Interval": 0, "Timeout": None, "Retries": 0}, HealthCheck(("p",))),
    ],
)
def test_the_health_check_has_every_form(found: Any, check: HealthCheck | None) -> None:
    assert read({"Healthcheck": found}).healthcheck == check


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "config of the image configuration is not an object"),
        ({"Cmd": [7]}, "Cmd of config of the image holds something that is not text"),
        ({"Cmd": {}}, "Cmd of config of the image is not a list"),
        ({"Env": {"A": "b"}}, "Env of config of the image is not a list"),
        ({"Env": ["A=b\0"]}, "NUL"),
        ({"User": 0}, "User of config of the image is not text"),
        ({"ExposedPorts": ["80/tcp"]}, "ExposedPorts of config of the image is not an object"),
        ({"ExposedPorts": {"80/x": {}}}, '"80/x", which is no port'),
        ({"ExposedPorts": {"99999": {}}}, '"99999", which is no port'),
        ({"ExposedPorts": {"1-2-3": {}}}, '"1-2-3", which is no port'),
        ({"Volumes": {"/x/..": {}}}, 'Volumes of config of the image has "/x/.."'),
        ({"WorkingDir": "a\0b"}, "NUL"),
        ({"Volumes": ["/x"]}, "Volumes of config of the image is not an object"),
        ({"Labels": {"k": 7}}, "Labels of config of the image holds something that is not text"),
        ({"StopSignal": "SIGNOT"}, 'StopSignal of config of the image is "SIGNOT", which is no signal'),
        ({"Healthcheck": {"Test": ["CMD", "x"], "Interval": -1}}, "Interval of Healthcheck of the image is -1"),
        ({"Healthcheck": {"Test": ["CMD", "x"], "Interval": 1}}, "Interval of Healthcheck of the image is 1 ns"),
        ({"Healthcheck": {"Test": "x"}}, "Test of Healthcheck of the image is not a list"),
        ({"Healthcheck": {"Test": ["CMD", "x"], "Retries": "3"}}, "Retries of Healthcheck of the image is not a whole"),
    ],
)
def test_a_wrong_type_is_one_error_when_the_file_is_read(config: Any, message: str) -> None:
    with pytest.raises(OperationError) as caught:
        read(config)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rootfs": {"type": "tree"}}, 'type "tree", not layers'),
        ({"rootfs": {"diff_ids": ["x"]}}, 'diff_ids of the image configuration: "x" is not a digest'),
        ({"rootfs": {"diff_ids": [A] * 1025}}, "1025 layers"),
        ({"history": [7]}, "an entry of the image's history is not an object"),
        ({"history": [{"empty_layer": "yes"}]}, "empty_layer of an entry of the image's history is not true or false"),
        ({"architecture": 7}, "architecture of the platform of the image configuration is not text"),
        ({"os": "li\nnux"}, "the platform of the image configuration is malformed"),
        ({"created": 7}, "created of the image configuration is not text"),
        ({"Config": {}}, 'which some read as "config"'),
    ],
)
def test_what_else_is_wrong_is_one_error_too(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OperationError) as caught:
        read({}, **changes)
    assert message in caught.value.message


def test_what_is_made_reads_back_and_is_canonical() -> None:
    history = (History("2026-01-01T00:00:00Z", "RUN x", comment="c"), History(created_by="CMD y", empty_layer=True))
    config = {"Cmd": ["é"], "User": None, "Env": ["A=b"]}
    raw = make_config(Platform("linux", "arm", "v7"), config, [A], history, created="2026-01-01T00:00:00Z", author="me")
    found = parse_config(raw)
    assert (found.raw, found.digest, found.platform) == (raw, digest_of(raw), Platform("linux", "arm", "v7"))
    assert (found.diff_ids, found.history, found.config) == ((A,), history, {"Cmd": ["é"], "Env": ["A=b"]})
    assert (found.created, found.author) == ("2026-01-01T00:00:00Z", "me")
    assert raw == json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_text_that_is_no_unicode_is_refused_when_it_is_written() -> None:
    with pytest.raises(InputError, match="is not UTF-8"):
        make_config(Platform("linux", "amd64"), {"Cmd": ["\udcff"]}, [])


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v), max_leaves=6)
KEYS = st.sampled_from([*FULL, "Test", "Interval"])


@given(
    st.dictionaries(KEYS, values),
    st.dictionaries(st.sampled_from(["rootfs", "history", "os", "variant", "created"]), values),
)
def test_every_document_is_a_configuration_or_an_operation_error(config: dict[str, Any], more: dict[str, Any]) -> None:
    try:
        found = read(config, **more)
    except OperationError:
        return
    assert found.working_dir.startswith("/")
    assert all(isinstance(word, str) for word in (*found.command, *found.entrypoint, *found.shell))
