"""Docker's shell words, and what the words of some instructions must be."""

from __future__ import annotations

import pytest

from orchestrator.build.frontend import expand, expand_document, exposed, signal, undefined, words
from orchestrator.build.instructions import Document
from orchestrator.errors import InputError

ENV = {"A": "one", "E": "", "P": "/a/b/c.tar.gz", "W": "x  y"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain", "plain"),
        ("'$A'", "$A"),
        ('"$A b"', "one b"),
        ("\\$A", "$A"),
        ("$A-${A}s$B.", "one-ones."),
        ("${B:-d}${B-d}${E:-d}${E-d}", "ddd"),
        ("${A:+y}${A+y}${E:+y}${E+y}${B+y}", "yyy"),
        ("${A:?no}${E?no}", "one"),
        ("${P#*/}", "a/b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%.*}", "/a/b/c.tar"),
        ("${P%%.*}", "/a/b/c"),
        ("${P/b/X}", "/a/X/c.tar.gz"),
        ("${P//./_}", "/a/b/c_tar_gz"),
        ("${P//\\//-}", "-a-b-c.tar.gz"),
        ("${B:-${A:+$A$A}}", "oneone"),
        ("$W", "x  y"),
    ],
)
def test_a_word_is_expanded(word: str, expected: str) -> None:
    assert expand(word, ENV) == expected


@pytest.mark.parametrize("word", ["'a", '"a', "${A", "${}", "${A:x}", "${B?}", "${B:?gone}", "${E:?}"])
def test_a_word_that_cannot_be_expanded_is_an_error_that_quotes_it(word: str) -> None:
    with pytest.raises(InputError) as caught:
        expand(word, ENV)
    assert f'cannot expand "{word}": ' in caught.value.message


def test_the_escape_may_be_a_backquote() -> None:
    assert expand("`$A c:\\d", ENV, "`") == "$A c:\\d"


def test_words_are_split_where_no_quotes_are_and_at_the_blanks_of_variables() -> None:
    assert words("a 'b c' $W \"$W\"", ENV) == ["a", "b c", "x", "y", "x  y"]


def test_a_document_is_expanded_unless_its_delimiter_was_quoted_and_keeps_its_quotes() -> None:
    assert expand_document(Document("E", "'$A' \"${A}\" it's \\$A\n", True), ENV) == "'one' \"one\" it's $A\n"
    assert expand_document(Document("E", "$A\n", False), ENV) == "$A\n"


def test_names_are_undefined_unless_the_word_has_an_answer_for_it() -> None:
    assert undefined("$A $X ${Y} ${Z:-d} '$Q' ${X}", ["A"]) == ("X", "Y")


def test_ports_are_numbers_with_protocols_once_each() -> None:
    assert exposed(["80", "80/TCP", "53/udp", "8000-8002", "127.0.0.1:90:91/sctp"]) == (
        "80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp", "91/sctp",
    )  # fmt: skip


@pytest.mark.parametrize("port", ["", "x", "65536", "9-8", "80/tpc", "-1", "80:", "1-", "٣"])
def test_what_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(InputError, match=r"^EXPOSE "):
        exposed([port])


def test_a_signal_is_one_of_linux() -> None:
    assert signal("SIGQUIT") == "SIGQUIT"
    with pytest.raises(InputError):
        signal("SIGNOPE")
