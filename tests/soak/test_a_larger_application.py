"""An application as large as the voting one, with its own Dockerfiles and its own compose file for production: a proxy, a
web front end (Vue, built in one stage, served from another), an API (Django), two workers (Celery), PostgreSQL and Redis.

It comes from PyPI (django-vue-start, MIT). Its RUNs need Debian's archive, PyPI and npm's registry; no registry of images
is asked: all six bases are made here, by one `image make`, in a store that is empty."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.world import outside

pytestmark = [pytest.mark.soak, pytest.mark.kernel]

GENERATOR = "django-vue-start==1.1.6"
FEATURES = "--database postgresql --auth jwt --celery --allauth --skip-prompts"
BASES = (
    *("python:3.11-slim-bookworm", "node:18-alpine", "nginx:stable-alpine", "nginx:1.25-alpine"),
    *("postgres:15-alpine", "redis:7-alpine"),
)
WORKER = """\
from celery import Celery

app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
"""Its compose file starts `celery -A config`, and the generator leaves out this module, which Celery's manual has."""
OVERRIDE = """\
services:
  backend:
    environment: [DJANGO_SECURE_SSL_REDIRECT=False]
    healthcheck:
      test: [CMD, python, -c, "import urllib.request as r; r.urlopen('http://localhost:8000/api/schema/')"]
      interval: 2s
      start_period: 2m
  celery: {depends_on: {backend: {condition: service_healthy}}}
  frontend: {healthcheck: {interval: 2s}}
  nginx: {ports: !override ["127.0.0.1:18080:80"]}
"""
"""Its own check of the API asks with curl, which its image does not have, for a page that the API does not have; API and
workers would all make the same tables at the same time."""


def make_application(directory: Path) -> Path:
    def do(*command: str) -> None:
        argv = [*outside(), "env", f"TMPDIR={directory}", *command]
        done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"

    do(sys.executable, "-m", "venv", "tools")
    do("tools/bin/pip", "install", "--quiet", GENERATOR)
    do("tools/bin/django-vue-start", "new", "shop", *FEATURES.split())
    application = directory / "shop"
    (application / "backend/config/celery.py").write_text(WORKER)
    (application / "override.yml").write_text(OVERRIDE)
    return application


def ask(path: str, *options: str) -> str:
    """What the proxy answers, or ""; asked from outside of the tests' world, where it is published."""
    argv = [*outside(), "curl", "--silent", "--max-time", "10", *options, f"http://127.0.0.1:18080{path}"]
    return subprocess.run(argv, capture_output=True, text=True).stdout


def test_a_web_an_api_workers_and_their_databases_are_built_and_serve(pystack: Pystack, tmp_path: Path) -> None:
    application = make_application(tmp_path)
    pystack.prefix = outside()  # where the network is
    made = pystack.run("image", "make", *BASES, timeout_s=600)
    assert made.code == 0, str(made)
    assert sorted(made.stdout.split()) == sorted(BASES)
    pystack.environment |= {
        "COMPOSE_FILE": "docker-compose.production.yml:override.yml",
        "CORS_ALLOWED_ORIGINS": "http://localhost",
        "DJANGO_ALLOWED_HOSTS": "localhost,127.0.0.1",
        "DJANGO_SECRET_KEY": "made-up",
    }
    stack: Stack = pystack.stack_in(application, "shop")
    stack.must("up", "-d", "--build", "--wait", timeout_s=900)
    assert '<div id="app">' in ask("/")
    assert '"openapi"' in ask("/api/schema/?format=json")
    user = json.dumps({"username": "nobody", "password": "nothing"})  # the API looks for it in the database
    header = ("--header", "Content-Type: application/json")
    assert "Unable to log in" in ask("/api/auth/login/", *header, "--data", user)
    # A worker makes its tables, as the API did before it, and then reports itself.
    eventually(lambda: "ready." in stack.must("logs", "celery").stdout, deadline_s=180)
