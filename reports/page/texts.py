"""Escaping of text from users, servers and scenario files, so that none of it breaks XML, HTML or Markdown."""

from __future__ import annotations

import re
from typing import Any

# XML 1.0 allows no control characters, surrogates, U+FFFE or U+FFFF, not even as character references.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\](?=[(\[])")


def xml_safe(text: str) -> str:
    r"""Return `text` with each character that is invalid in XML replaced by its code, such as \u0000."""
    return _NOT_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def utf8_safe(text: str) -> str:
    r"""Return `text` with each lone surrogate replaced by its code, such as \udc80."""
    return text.encode("utf-8", "backslashreplace").decode()


def markdown_line(value: Any) -> str:
    r"""Return `value` as one line of Markdown or one table cell: no line break, tag, link or `|`.

    Backslashes are doubled, so that none cancels the escape before a `|`.
    """
    line = " ".join(xml_safe(str(value)).split()).replace("\\", "\\\\").replace("|", "\\|")
    return _LINK.sub(r"\\]", _TAG.sub(r"\\<", line))


def markdown_code(text: str) -> str:
    """Return `text` as a code span, or "" if it is blank. The fence is longer than any run of backticks in it."""
    line = " ".join(xml_safe(text).split())
    if not line:
        return ""
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence, pad = "`" * (longest + 1), " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"
