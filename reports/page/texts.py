"""Text of users, servers and scenario files in XML, HTML and Markdown: no text breaks its file."""

from __future__ import annotations

import re
from typing import Any

# XML 1.0 carries no control characters, surrogates, U+FFFE and U+FFFF, not even as character references.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\](?=[(\[])")


def xml_safe(text: str) -> str:
    r"""Return `text` with each character that XML cannot carry written as its code, such as \u0000."""
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def utf8_safe(text: str) -> str:
    r"""Return `text` with each half of a surrogate pair written as its code, such as \udc80."""
    return text.encode("utf-8", "backslashreplace").decode()


def markdown_line(value: Any) -> str:
    r"""Return `value` as one line of Markdown, or a cell of a table: no line break, tag, link or `|`.

    A backslash is doubled, so that it cannot undo the one that is put before a `|`.
    """
    line = " ".join(xml_safe(str(value)).split()).replace("\\", "\\\\").replace("|", "\\|")
    return _LINK.sub(r"\\]", _TAG.sub(r"\\<", line))


def markdown_code(text: str) -> str:
    """Return `text` as a code span, "" where it is blank; its fence is longer than any backticks inside."""
    line = " ".join(xml_safe(text).split())
    if not line:
        return ""
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence, pad = "`" * (longest + 1), " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"
