"""Text that others wrote, made harmless for a terminal.

Control characters (C0 and C1, so every escape sequence including OSC), bidirectional overrides, invisible and
line-separating characters, and undecodable bytes become visible escapes such as ``\\x1b``: they can no longer move the
cursor, rename the window, answer a query or reorder a line. A tab stays; a newline stays where lines are meant.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

_DANGEROUS = (
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_SGR = r"\x1b\[[0-9;:]*m"


def escape_line(text: str) -> str:
    """`text` as one harmless line: newlines are escaped too."""
    if text.isascii() and text.isprintable():
        return text
    import re  # Here: most commands print nothing that needs it.

    return re.sub(_DANGEROUS, _visible, text)


def escape_text(text: str) -> str:
    """`text` as harmless lines: newlines stay."""
    return "\n".join(escape_line(line) for line in text.split("\n"))


def escape_log(line: bytes) -> str:
    """A line that a container wrote. Colours (SGR sequences) are dropped, as they say nothing; a carriage return at
    the end goes; the rest is escaped. Undecodable bytes are shown as ``\\xff``."""
    text = line.decode("utf-8", "surrogateescape").removesuffix("\r")
    if "\x1b" in text:
        import re

        text = re.sub(_SGR, "", text)
    return escape_line(text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code == 0x0A:
        return "\\n"
    if code == 0x0D:
        return "\\r"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
