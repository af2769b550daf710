"""What a Dockerfile says, as values: stages of instructions, each with its place and its original text.

Words are kept as they are written wherever Docker expands variables in them later, when the environment of the stage is
known; each such field says so ("word"). How: `frontend.expand` for one word, `frontend.words` where a word may become
several. Everything else is final.

Source: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.values import field, frozen


@frozen
class Lines:
    """Lines of the Dockerfile, from 1; `end_line` is the last one, that of a heredoc's end included."""

    line: int
    end_line: int


@frozen
class Finding:
    """A warning, by the name that BuildKit's documentation gives the rule."""

    rule: str
    message: str
    line: int


@frozen
class Document:
    """A heredoc: its body (without leading tabs if it was ``<<-``). `expand`: its delimiter was not quoted."""

    name: str
    content: str
    expand: bool


@frozen
class RunMount:
    """``RUN --mount=``. With a ``$`` in it, `frontend.expand_mount` makes the final one of it; until then, nothing but
    `text` and `from_` is to be relied on.

    `kind`: bind cache secret tmpfs ssh. `options`: ``mode`` (octal text), ``uid``, ``gid`` (decimal text), ``size`` (bytes,
    decimal text), ``sharing`` (shared private locked), ``env`` (the variable of a secret), those that are there alone.
    `target` of a secret or an agent's socket may be "": the default is the executor's. `from_`: stage, context or image.
    """

    text: str
    kind: str = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = True
    required: bool = False


@frozen
class Instruction:
    """What all of them have. `text`: the line as written, continuations joined, heredocs not included."""

    place: Lines
    text: str


@frozen
class Arg(Instruction):
    """``ARG NAME[=DEFAULT]...``: names are final, defaults are words."""

    pairs: tuple[tuple[str, str | None], ...]


@frozen
class Env(Instruction):
    """``ENV``: names and values are words."""

    pairs: tuple[tuple[str, str], ...]


@frozen
class Label(Instruction):
    """``LABEL``: names and values are words."""

    pairs: tuple[tuple[str, str], ...]


@frozen
class Copy(Instruction):
    """``COPY``: sources, destination, chown, chmod and excludes are words.

    `from_`: "" is the build context; else the name or number of a stage, a named context or an image (not expanded).
    `documents`: heredocs as sources (they are in `sources` no more); their content is expanded if they say so.
    """

    sources: tuple[str, ...]
    destination: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()


@frozen
class Add(Instruction):
    """``ADD``: as `Copy`, without ``--from`` and ``--parents``; checksum is a word. `unpack`: None: by the source."""

    sources: tuple[str, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    excludes: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()
    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None


@frozen
class Run(Instruction):
    """``RUN``. `command`: a tuple is executed as it is; a text goes to the stage's shell, heredocs put back in place (the
    body alone, for ``RUN <<EOF``). `executable`: the body of a lone heredoc that begins with ``#!``: it is executed as a
    file, and no shell takes part. `network`: default none host. `security`: sandbox insecure.
    """

    command: str | tuple[str, ...]
    documents: tuple[Document, ...] = ()
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    executable: str = ""


@frozen
class Workdir(Instruction):
    """``WORKDIR``: a word."""

    path: str


@frozen
class User(Instruction):
    """``USER``: a word."""

    user: str


@frozen
class Expose(Instruction):
    """``EXPOSE``: words, of which each may become several; `frontend.exposed` makes ports of the expanded ones."""

    ports: tuple[str, ...]


@frozen
class Volume(Instruction):
    """``VOLUME``: words."""

    paths: tuple[str, ...]


@frozen
class StopSignal(Instruction):
    """``STOPSIGNAL``: a word; `frontend.signal` checks the expanded one."""

    signal: str


@frozen
class Maintainer(Instruction):
    name: str


@frozen
class OnBuild(Instruction):
    """``ONBUILD``: the text of the instruction, heredocs included, as it goes into the configuration."""

    instruction: str


@frozen
class Cmd(Instruction):
    """``CMD``: a text for the shell, or what is executed. Never expanded."""

    command: str | tuple[str, ...]


@frozen
class Entrypoint(Instruction):
    command: str | tuple[str, ...]


@frozen
class Shell(Instruction):
    command: tuple[str, ...]


@frozen
class Healthcheck(Instruction):
    """``HEALTHCHECK``. `none`: it switches off what the base has. Times in seconds; None and `retries` None: not given."""

    none: bool
    command: str | tuple[str, ...] | None = None
    interval_s: float | None = None
    timeout_s: float | None = None
    start_period_s: float | None = None
    start_interval_s: float | None = None
    retries: int | None = None


@frozen
class Stage:
    """``FROM`` and what follows. `name`: in lower case, or "". `base` and `platform` are words (of the global arguments and
    the predefined ones). `number` counts from 0. `place` and `text` are those of its FROM."""

    number: int
    name: str
    base: str
    platform: str
    instructions: tuple[Instruction, ...]
    place: Lines
    text: str


@frozen
class Dockerfile:
    """`name` is for messages: the path as the user knows it. `escape`: ``\\`` or a backquote. `globals`: ARGs above FROM.

    `warnings`: what can be seen in the text alone, without the rules that ``# check=skip=`` names.
    """

    text: str
    name: str
    escape: str
    globals: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    warnings: tuple[Finding, ...] = ()
