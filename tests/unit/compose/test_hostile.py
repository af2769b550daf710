"""Hostile input: one clear error, at once, whatever it is."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compose.load import ComposeError, load
from orchestrator.compose.text.files import MAX_COMPOSE_BYTES
from tests.unit.compose.stacks import Stack


def refused(stack: Stack, **more: Any) -> str:
    with pytest.raises(ComposeError) as caught:
        load(stack.request(**more))
    return str(caught.value)


def test_a_fifo_as_compose_file_is_refused_and_not_waited_for(stack: Stack) -> None:
    os.mkfifo(stack.folder / "compose.yaml")
    assert "the file is a FIFO, not a regular file" in refused(stack)


def test_a_fifo_as_env_file_is_refused_and_not_waited_for(stack: Stack) -> None:
    os.mkfifo(stack.folder / "e.env")
    (message,) = stack.messages("services: {a: {image: i, env_file: e.env}}")
    assert message.endswith("services.a.env_file[0]: the file e.env is a FIFO, not a regular file")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/tty"])
def test_a_device_as_env_file_is_refused(stack: Stack, device: str) -> None:
    (message,) = stack.messages(f"services: {{a: {{image: i, env_file: {device}}}}}")
    assert device in message


def test_dev_null_is_an_empty_env_file(stack: Stack) -> None:
    assert "environment" not in stack.service("env_file: /dev/null")


def test_a_directory_and_a_socket_are_refused(stack: Stack) -> None:
    (stack.folder / "compose.yaml").mkdir()
    assert "is a directory" in refused(stack)
    with socket.socket(socket.AF_UNIX) as listener:
        path = Path(os.path.relpath(stack.folder / "s"))
        here = Path.cwd()
        os.chdir(stack.folder)
        try:
            listener.bind("s")
        finally:
            os.chdir(here)
        assert "s: the file" in refused(stack, files=("s",)), path


def test_a_huge_file_is_refused_by_its_size(stack: Stack) -> None:
    with (stack.folder / "compose.yaml").open("wb") as file:
        file.truncate(MAX_COMPOSE_BYTES + 1)
    assert "is too large" in refused(stack)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"services:\n  a\xff: {}\n", "compose.yaml:2:4: the file is not valid UTF-8"),
        (b"services:\n  a\0: {}\n", "compose.yaml:2:4: the file holds a NUL byte"),
        (b"a: \x07", "compose.yaml:1:4: not valid YAML: control characters are not allowed"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_their_place(stack: Stack, data: bytes, message: str) -> None:
    (stack.folder / "compose.yaml").write_bytes(data)
    assert message in refused(stack)


def test_utf_16_and_a_byte_order_mark_are_text(stack: Stack) -> None:
    text = "services: {a: {image: host}}\n"
    for encoding in ("utf-16", "utf-8-sig"):
        (stack.folder / "compose.yaml").write_bytes(text.encode(encoding))
        assert "a" in load(stack.request()).project.services


def test_a_hundred_thousand_services_are_refused(stack: Stack) -> None:
    text = "services:\n" + "".join(f"  s{n}: {{image: i, init: true, tty: true}}\n" for n in range(100_000))
    (stack.folder / "compose.yaml").write_text(text)
    assert "too large" in refused(stack)


def test_a_python_tag_makes_no_object(stack: Stack) -> None:
    project = stack.load("services: {a: {image: !!python/object/apply:os.system x}}").project
    assert [service.image for service in project.services.values()] == ["x"]


def test_a_nul_byte_in_a_variable_is_refused(stack: Stack) -> None:
    (message,) = stack.messages("services: {a: {image: i, environment: {A: $V}}}", {"V": "x\0y"})
    assert message.endswith("services.a.environment.A: holds a NUL byte")


def test_services_that_extend_each_other_without_end_are_refused(stack: Stack) -> None:
    text = "services:\n" + "".join(f"  s{n}: {{extends: s{n + 1}}}\n" for n in range(5_000)) + "  s5000: {image: i}\n"
    (message, *_) = stack.messages(text)
    assert message.endswith("more than 60 services extend each other in a row")


def test_files_that_include_others_without_end_are_refused(stack: Stack) -> None:
    for number in range(40):
        stack.write(f"i{number}.yaml", f"include: [i{number + 1}.yaml]\nservices: {{a{number}: {{image: i}}}}\n")
    assert "files are included more than 30 levels deep" in str(stack.errors("include: [i0.yaml]\n"))


def test_ports_without_measure_are_refused(stack: Stack) -> None:
    ranges = ", ".join(f'"127.0.0.{n}:1-65535:1-65535"' for n in range(1, 50))
    assert any(
        "more than 65,535 ports" in line for line in stack.messages(f"services: {{a: {{image: i, ports: [{ranges}]}}}}")
    )


def test_fifty_thousand_unknown_keys_cost_no_time(stack: Stack) -> None:
    keys = ", ".join(f"k{n}: 1" for n in range(50_000))
    error = stack.errors(f"services: {{a: {{image: i, {keys}}}}}")
    assert len(error.diagnostics) == 1_000
    assert str(error).endswith("and 950 more errors")
