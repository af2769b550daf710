"""Whatever a Dockerfile or an ignore file holds: a value or an InputError, and nothing else."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.build.frontend import (
    expand,
    expand_mount,
    exposed,
    needed_stages,
    parse,
    platform_arguments,
    stage_findings,
    words,
)
from orchestrator.build.ignore import parse_ignore
from orchestrator.build.instructions import Expose, Run
from orchestrator.errors import InputError

SEED = """\
# syntax=docker/dockerfile:1
# check=skip=all;experimental=all
ARG V=3 W="a b"
FROM --platform=$BUILDPLATFORM alpine:${V:-3} AS build
ENV A=1 B="two words" C='$A'
LABEL a.b="c" d=
RUN --mount=type=cache,target=/c,id=$A,sharing=locked --mount=type=secret,id=s,env=T,required --network=none make \\
  # a comment
  all
RUN <<EOF cat <<-"X" >y
#!/bin/sh
$A
EOF
\tb
\tX
COPY --from=build --chown=$A:1 --chmod=755 --link --exclude=*.o <<one a /x/
${A#p}
one
ADD --checksum=sha256:00 --unpack=true ["a b", "/x"]
ONBUILD RUN <<E
x
E
FROM build
HEALTHCHECK --interval=1m30s --retries=3 CMD ["a", "b"]
EXPOSE 80/tcp 8000-8010/udp $P
VOLUME ["/a"]
SHELL ["/bin/sh", "-c"]
STOPSIGNAL $S
USER a:b
WORKDIR ${A/b/c}
CMD echo "${A:?no}"
ENTRYPOINT ["x"]
"""
PIECES = [
    *(line for line in SEED.split("\n") if line),
    "\\", "\n", "`", "'", '"', "${", "}", "$", "<<", "<<-", "=", ",", "[", "]", "--",
    "\0", "\r", "\t", "\ufeff", "\ud800", "\u2028", "#", "9" * 30, "type=", "/", ":", "**", "!", "é", " ", " \\\n",
]  # fmt: skip
VARIABLES = {"A": "one/two", "V": "", "P": "80 81"}


def everything(text: str) -> None:
    """All that can be done with a Dockerfile without building it."""
    with contextlib.suppress(InputError):
        dockerfile = parse(text, "D")
        for stage in dockerfile.stages:
            stage_findings(dockerfile, stage, VARIABLES)
            for item in stage.instructions:
                with contextlib.suppress(InputError):
                    expand(item.text, VARIABLES, dockerfile.escape)
                if isinstance(item, Expose):
                    with contextlib.suppress(InputError):
                        exposed(words(" ".join(item.ports), VARIABLES, dockerfile.escape))
                if isinstance(item, Run):
                    for mount in item.mounts:
                        with contextlib.suppress(InputError):
                            expand_mount(mount, VARIABLES, dockerfile.escape)
        needed_stages(dockerfile, given=VARIABLES, platform=platform_arguments("linux/amd64", "linux/arm64"))


def test_the_seed_is_a_dockerfile() -> None:
    assert len(parse(SEED, "D").stages) == 2


@pytest.mark.parametrize("seed", range(8))
def test_a_mutated_dockerfile_is_a_value_or_an_error_of_the_user(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        text = SEED
        for _ in range(chance.randint(1, 6)):
            at = chance.randint(0, len(text))
            end = min(len(text), at + chance.choice([0, 0, 1, 5, 40]))
            text = text[:at] + chance.choice(PIECES) * chance.choice([1, 1, 1, 3]) + text[end:]
        everything(text)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=12))
def test_pieces_of_dockerfiles_are_a_value_or_an_error_of_the_user(pieces: list[str]) -> None:
    everything("".join(pieces))
    everything("FROM a\n" + " ".join(pieces))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab$AV{}:-+?#%/*'\"\\` \n<"), max_size=20))
def test_a_word_is_expanded_or_refused(word: str) -> None:
    for escape in "\\`":
        with contextlib.suppress(InputError):
            expand(word, VARIABLES, escape)
        with contextlib.suppress(InputError):
            words(word, VARIABLES, escape)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab*?[]^-\\!/. #\n&|~"), max_size=20), st.text(alphabet="ab/.-", max_size=12))
def test_an_ignore_file_is_read_or_refused(text: str, path: str) -> None:
    with contextlib.suppress(InputError):
        ignore = parse_ignore(text, "i")
        ignore.ignores(path)
        ignore.has_exceptions_below(path)
