"""A Dockerfile's text becomes values, and each mistake in it is one error with its place."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.build import instructions as of
from orchestrator.build.frontend import parse
from orchestrator.errors import InputError


def only(text: str) -> Any:
    """The one instruction of a stage."""
    (instruction,) = parse(f"FROM scratch\n{text}", "Dockerfile").stages[0].instructions
    return instruction


def refusal(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        parse(text, "web/Dockerfile")
    return caught.value


def test_stages_have_numbers_names_bases_and_platforms() -> None:
    text = "ARG V=3\nFROM --platform=$BUILDPLATFORM alpine:$V AS Build\nRUN a\nFROM scratch\nCOPY --from=build /a /\n"
    found = parse(text, "D")
    assert [(s.number, s.name, s.base, s.platform) for s in found.stages] == [
        (0, "build", "alpine:$V", "$BUILDPLATFORM"),
        (1, "", "scratch", ""),
    ]
    assert [arg.pairs for arg in found.globals] == [(("V", "3"),)]
    assert found.stages[1].instructions[0].place == of.Lines(5, 5)


def test_lines_are_continued_past_comments_and_the_escape_can_be_a_backquote() -> None:
    text = "# escape=`\n# syntax=docker/dockerfile:1\nFROM scratch\nRUN one `\n  # not this\n  two\nENV A=c:\\x\n"
    found = parse(text, "D")
    run, env = found.stages[0].instructions
    assert isinstance(run, of.Run)
    assert isinstance(env, of.Env)
    assert found.escape == "`"
    assert str(run.command).split() == ["one", "two"]
    assert run.place == of.Lines(4, 6)
    assert env.pairs == (("A", "c:\\x"),)


def test_carriage_returns_and_a_byte_order_mark_are_no_part_of_it() -> None:
    found = parse("\ufeffFROM scratch\r\nUSER app\r\n", "D")
    assert found.stages[0].instructions[0] == of.User(of.Lines(2, 2), "USER app", "app")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ENV A=1 B=\"two words\"", {"pairs": (("A", "1"), ("B", '"two words"'))}),
        ("ENV A one two", {"pairs": (("A", "one two"),)}),
        ("LABEL a.b=c d=", {"pairs": (("a.b", "c"), ("d", ""))}),
        ("ARG A B=2", {"pairs": (("A", None), ("B", "2"))}),
        ("EXPOSE 80 8000-8010/udp $P", {"ports": ("80", "8000-8010/udp", "$P")}),
        ("VOLUME /a /b", {"paths": ("/a", "/b")}),
        ('VOLUME ["/a b"]', {"paths": ("/a b",)}),
        ("WORKDIR /a b", {"path": "/a b"}),
        ("STOPSIGNAL $S", {"signal": "$S"}),
        ("MAINTAINER me <me@x>", {"name": "me <me@x>"}),
        ('SHELL ["/bin/bash", "-c"]', {"command": ("/bin/bash", "-c")}),
        ("CMD echo $HOME", {"command": "echo $HOME"}),
        ('CMD ["echo", "$HOME"]', {"command": ("echo", "$HOME")}),
        ("CMD []", {"command": ()}),
        ("CMD ['a']", {"command": "['a']"}),
        ("ENTRYPOINT", {"command": ()}),
        ("HEALTHCHECK NONE", {"none": True}),
        ("ONBUILD COPY . /app", {"instruction": "COPY . /app"}),
        ("ONBUILD RUN <<E\na\nE", {"instruction": "RUN <<E\na\nE"}),
        ("COPY a\\ b /x/", {"sources": ("a\\", "b"), "destination": "/x/"}),
        ('COPY ["a b", "/x"]', {"sources": ("a b",), "destination": "/x"}),
        (
            "COPY --from=1 --chown=a:b --chmod=u+x --link --parents=false --exclude=*.o --exclude=t a b /x",
            {
                "from_": "1", "chown": "a:b", "chmod": "u+x", "link": True, "parents": False, "excludes": ("*.o", "t"),
                "sources": ("a", "b"), "destination": "/x",
            },
        ),
        (
            "ADD --checksum=sha256:00 --keep-git-dir --unpack=FALSE https://h/x.git#v1:d /y",
            {"checksum": "sha256:00", "keep_git_dir": True, "unpack": False, "sources": ("https://h/x.git#v1:d",)},
        ),
        ("ADD a /y", {"unpack": None, "keep_git_dir": False}),
        ("RUN --network=none --security=insecure make", {"command": "make", "network": "none", "security": "insecure"}),
    ],
)  # fmt: skip
def test_an_instruction_is_read(text: str, expected: dict[str, object]) -> None:
    found = only(text)
    assert {name: getattr(found, name) for name in expected} == expected


def test_a_health_check_has_its_times_in_seconds_and_what_is_not_given_is_none() -> None:
    found = only('HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0s --retries=3 CMD ["a"]')
    assert (found.interval_s, found.timeout_s, found.start_period_s, found.start_interval_s) == (90.0, 0.5, 0.0, None)
    assert (found.retries, found.command, found.none) == (3, ("a",), False)


def test_the_body_of_a_lone_heredoc_is_the_command_and_its_tabs_are_no_part_of_it() -> None:
    found = only("RUN <<-'EOF'\n\techo $A\n\t\techo b\n\tEOF\n")
    assert found.command == "echo $A\necho b\n"
    assert found.documents == (of.Document("EOF", "echo $A\necho b\n", expand=False),)
    assert found.executable == ""
    assert found.place == of.Lines(2, 5)


def test_a_lone_heredoc_that_names_its_interpreter_is_a_file_to_execute() -> None:
    assert only("RUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF\n").executable == "#!/usr/bin/python3\nprint(1)\n"


def test_several_heredocs_are_put_back_for_the_shell() -> None:
    found = only("RUN cat <<A >x && cat <<-B >y\na\nA\n\tb\n\tB\n")
    assert found.command == "cat <<A >x && cat <<-B >y\na\nA\n\tb\nB"
    assert [document.content for document in found.documents] == ["a\n", "b\n"]


def test_heredocs_are_sources_of_a_copy_beside_files() -> None:
    found = only('COPY <<one file <<"two" /d/\n1 $A\none\n2 $A\ntwo\n')
    assert found.sources == ("file",)
    assert found.documents == (of.Document("one", "1 $A\n", True), of.Document("two", "2 $A\n", False))


def test_an_onbuild_in_a_heredoc_is_the_heredocs() -> None:
    text = "FROM scratch\nCOPY <<EOF /Dockerfile\nONBUILD RUN <<X\nEOF\n"
    text += "RUN echo \\\nONBUILD RUN <<Y\nb\nY\nONBUILD RUN <<Z\nc\nZ\n"
    copy, run, onbuild = parse(text, "D").stages[0].instructions
    assert isinstance(copy, of.Copy)
    assert copy.documents[0].content == "ONBUILD RUN <<X\n"
    assert isinstance(run, of.Run)
    assert run.command == "echo ONBUILD RUN <<Y\nb\nY"
    assert isinstance(onbuild, of.OnBuild)
    assert onbuild.instruction == "RUN <<Z\nc\nZ"
    assert onbuild.place == of.Lines(9, 11)


def test_halves_of_surrogate_pairs_become_what_go_makes_of_them() -> None:
    assert only('CMD ["\\ud800a"]').command == ("�a",)


def test_a_mistake_has_its_file_and_line_and_the_lines_around_it() -> None:
    error = refusal("FROM scratch\nCOPY --chwon=1 a /b\nRUN x\n")
    assert error.place == "web/Dockerfile:2"
    assert error.message.split("\n") == [
        'COPY has no flag --chwon (did you mean "chown"?)',
        "    1 | FROM scratch",
        "  > 2 | COPY --chwon=1 a /b",
        "    3 | RUN x",
    ]
    assert error.hint == "COPY has --from, --chown, --chmod, --link, --parents, --exclude"


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("FORM alpine\n", 1, 'unknown instruction FORM (did you mean "FROM"?)'),
        ("FROM a\nRUN x\nENTRYPONT x\n", 3, 'unknown instruction ENTRYPONT (did you mean "ENTRYPOINT"?)'),
        ("RUN x\n", 1, "RUN comes before the first FROM"),
        ("ARG A\n", 1, "there is no FROM"),
        ("FROM a b\n", 1, "FROM needs an image, or an image, AS and a name"),
        ("FROM a IS b\n", 1, 'FROM a: "IS" where AS should be'),
        ("FROM a AS 1b\n", 1, '"1b" is no name of a stage'),
        ("# escape=x\nFROM a\n", 1, "invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM a\n", 2, "only one escape parser directive can be used"),
        ("FROM a\nENV A\n", 2, "ENV is not of the form NAME=value"),
        ('FROM a\nLABEL a="b" \\\n  c d\n', 2, "LABEL is not of the form NAME=value"),
        ("FROM a\nENV =b\n", 2, "ENV has a value without a name"),
        ("FROM a\nLABEL\n", 2, "LABEL needs at least one argument"),
        ('FROM a\nCMD ["a", ["b"]]\n', 2, "only strings are supported in JSON arrays"),
        ("FROM a\nSHELL bash\n", 2, "SHELL is a list in JSON"),
        ("FROM a\nSHELL []\n", 2, "SHELL needs at least one argument"),
        ("FROM a\nCOPY a\n", 2, "COPY needs a source and a destination"),
        ("FROM a\nCOPY a <<E\nx\nE\n", 2, "COPY cannot have a heredoc as its destination"),
        ("FROM a\nCOPY --from=$X a /a\n", 2, "COPY --from=$X cannot have a variable"),
        ("FROM a\nCOPY --link=maybe a /a\n", 2, 'COPY --link is true or false, not "maybe"'),
        ("FROM a\nCOPY --chown a /a\n", 2, "COPY --chown needs a value: --chown=VALUE"),
        ("FROM a\nCOPY --chown=1 --chown=2 a /a\n", 2, "COPY --chown is given twice"),
        ("FROM a\nADD --from=x a /a\n", 2, "ADD has no flag --from"),
        ("FROM a\nRUN\n", 2, "RUN needs a command"),
        ("FROM a\nRUN <<E\nx\n", 2, "the heredoc of RUN has no end"),
        ("FROM a\nONBUILD RUN <<E\nx\n", 2, "the heredoc of RUN has no end"),
        ("FROM a\nRUN --network=hots x\n", 2, 'RUN --network=hots: none of default, none, host (did you mean "host"?)'),
        ("FROM a\nRUN --security=none x\n", 2, "RUN --security=none: none of sandbox, insecure"),
        ("FROM a\nONBUILD\n", 2, "ONBUILD needs an instruction"),
        ("FROM a\nONBUILD FROM b\n", 2, "ONBUILD cannot hold FROM"),
        ("FROM a\nONBUILD ONBUILD RUN x\n", 2, "ONBUILD cannot hold ONBUILD"),
        ("FROM a\nONBUILD MAINTAINER b\n", 2, "ONBUILD cannot hold MAINTAINER"),
        ("FROM a\nONBUILD RUNN b\n", 2, 'unknown instruction RUNN after ONBUILD (did you mean "RUN"?)'),
        ("FROM a\nONBUILD COPY b\n", 2, "COPY needs a source and a destination"),
        ("FROM a\nHEALTHCHECK\n", 2, "HEALTHCHECK needs at least one argument"),
        ("FROM a\nHEALTHCHECK CMD\n", 2, "HEALTHCHECK CMD has no command"),
        ("FROM a\nHEALTHCHECK NONE x\n", 2, "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CDM x\n", 2, 'HEALTHCHECK CDM: neither CMD nor NONE (did you mean "CMD"?)'),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x\n", 2, "HEALTHCHECK --interval=1us is less than 1ms"),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x\n", 2, 'HEALTHCHECK --retries: "-1" is no number'),
        ("FROM a\nVOLUME [\"\"]\n", 2, "VOLUME has an empty path"),
        ("FROM a\nUSER\n", 2, "USER needs exactly one argument"),
        ('FROM a\nARG "a b"=c\n', 2, 'ARG "a b"=c: ""a b"" is no name of an argument'),
        ('FROM a\nCMD ["\\u0000"]\n', 2, "CMD has a NUL character, which no argument and no file name can hold"),
        ("FROM a\nRUN a\0b\n", 2, "a NUL character: this is no text file"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(text: str, line: int, sentence: str) -> None:
    error = refusal(text)
    assert error.place == f"web/Dockerfile:{line}"
    assert error.message.split("\n")[0] == sentence


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n# comments\n"])
def test_a_file_without_instructions_is_a_mistake(text: str) -> None:
    assert str(refusal(text)) == "web/Dockerfile: the Dockerfile has no instructions"


def test_json_that_is_nested_too_deeply_is_a_mistake() -> None:
    assert refusal("FROM a\nCMD " + "[" * 100_000 + "\n").exit_code == 2


def test_a_long_instruction_is_quoted_in_part_and_nothing_in_it_reaches_a_terminal_as_it_is() -> None:
    error = refusal("FROM a\nCOPY --no\x1b[1m" + "\\\n  x" * 30 + "\n")
    assert "\x1b" not in error.message
    assert len(error.message.split("\n")) == 11
