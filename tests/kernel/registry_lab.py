"""Real registries on 127.0.0.1: Debian's docker-registry, alone and behind nginx with TLS and a password."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.machine import ROOT, eventually

PULL = """
import os, sys, trio
from orchestrator.contracts.images import Transfer
from orchestrator.images.reference import parse_named
from orchestrator.images.registry.credentials import Credentials
from orchestrator.images.registry.pull import pull
from orchestrator.images.registry.settings import load_settings
from orchestrator.images.store.store import Store

def told(part):
    if isinstance(part, Transfer) and part.action == "pulling":
        print(part.done_bytes, flush=True)

async def main():
    settings, credentials = load_settings(os.environ), Credentials(os.environ)
    image = await pull(Store(sys.argv[1]), parse_named(sys.argv[2]), None, told, settings=settings, credentials=credentials)
    print(image.id)

trio.run(main)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(argv: list[str], port: int) -> Iterator[None]:
    """A server, once it listens."""
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:

            def listens() -> bool:
                if process.poll() is not None and process.stderr is not None:
                    raise AssertionError(process.stderr.read().decode(errors="replace"))
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    return True
                return False

            eventually(listens)
            yield
        finally:
            process.terminate()
            process.wait(10)


@contextlib.contextmanager
def docker_registry(directory: Path) -> Iterator[str]:
    """Debian's docker-registry with its storage below `directory`; its host and port."""
    port = free_port()
    config = directory / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/storage}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with running(["docker-registry", "serve", str(config)], port):
        yield f"127.0.0.1:{port}"


def openssl(*args: str) -> str:
    return subprocess.run(["openssl", *args], capture_output=True, text=True, check=True).stdout


def make_certificates(directory: Path) -> None:
    """ca.crt, and server.crt with server.key for 127.0.0.1."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca = ["-keyout", f"{directory}/ca.key", "-out", f"{directory}/ca.crt", "-subj", "/CN=lab"]
    openssl("req", "-x509", *key, *ca, "-days", "2")
    request = ["-keyout", f"{directory}/server.key", "-out", f"{directory}/server.crt", "-subj", "/CN=127.0.0.1"]
    signed = ["-CA", f"{directory}/ca.crt", "-CAkey", f"{directory}/ca.key"]
    openssl("req", "-x509", *key, *request, *signed, "-days", "2", "-addext", "subjectAltName=IP:127.0.0.1",
            "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip


@contextlib.contextmanager
def guarded(directory: Path, behind: str) -> Iterator[str]:
    """nginx before the registry `behind`: TLS, and Basic for ann with the password ``secret``."""
    port = free_port()
    make_certificates(directory)
    (directory / "htpasswd").write_text(f"ann:{openssl('passwd', '-apr1', 'secret').strip()}\n")
    temporary = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (directory / "nginx.conf").write_text(
        f"daemon off; master_process off; user root; pid {directory}/nginx.pid; error_log stderr error; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {directory}/body; {temporary} client_max_body_size 0;\n"
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {directory}/server.crt;\n"
        f"ssl_certificate_key {directory}/server.key; auth_basic registry; auth_basic_user_file {directory}/htpasswd;\n"
        f"location / {{ proxy_pass http://{behind}; proxy_set_header Host $http_host; proxy_request_buffering off;\n"
        "proxy_buffering off; proxy_set_header X-Forwarded-Proto https; } } }\n"
    )
    with running(["nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")], port):
        yield f"127.0.0.1:{port}"


def skopeo(*args: str) -> str:
    """Its output. It is told of no policy, and asks no registry's certificate."""
    done = subprocess.run(["skopeo", "--insecure-policy", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def umoci(*args: str) -> None:
    done = subprocess.run(["umoci", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def pulling(images: Path, name: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A process that pulls `name` into the store `images`, and writes how many bytes came, then the image's id."""
    return subprocess.Popen(
        [sys.executable, "-c", PULL, str(images), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
    )
