"""No text from users, servers or scenarios breaks an exported file."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from reports import exports, finish, publish, record
from reports.page import render, svg, texts
from tests.helpers import report_runs

# Code points that tend to break formats; drawn far more often than others.
AWKWARD = some.sampled_from(
    [
        "\x00",
        "\x07",
        "\x0b",
        "\x1b",
        "\x7f",
        "\x85",
        "\u2028",
        "\ufffe",
        "\uffff",
        "\ud800",
        "\udfff",
        "\U0010ffff",
        "]]>",
        "<![CDATA[",
        "-->",
        "<?xml",
        "&",
        "<b>",
        "|",
        "\\",
        "\\|",
        "\n",
        "\r\n",
        "\t",
        "`",
        "``",
        "[x](y)",
        '"',
        "'",
    ]
)
TEXT = some.lists(AWKWARD | some.text(some.characters(), max_size=3), max_size=8).map("".join)
BUDGET = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> record.Run:
    """A failed run: every format shows a violation."""
    return finish.finish(tmp_path_factory.mktemp("runs"), report_runs.failing())


def with_text(run: record.Run, text: str) -> record.Run:
    """Return the run with `text` in every field that can contain foreign text."""
    document = json.loads(json.dumps(run.document))
    document["scenario"] |= {"question": text, "expect": text, "source": text}
    document |= {"command": text, "decided_by": text}
    for finding in document["invariants"]:
        finding |= {"note": text if finding["verdict"] == "pass" else "", "violations": [text, text]}
    for objective in document["objectives"]:
        objective |= {"text": text, "note": text}
    for criterion in document["validity"]["criteria"]:
        criterion["fix"] = text
    return record.Run(run.path, document)


@BUDGET
@given(TEXT)
@example("\x00\ud800\uffff]]>")
def test_junit_is_well_formed_for_any_text(run, text):
    """Issue 13: a tweet with a control character in a violation produced a file that no CI server could read."""
    written = exports.junit(with_text(run, text))

    suite = ElementTree.fromstring(written.encode("utf-8"))

    cases = suite.findall("testcase")
    assert (
        len(cases)
        == int(suite.get("tests") or 0)
        == len(ElementTree.fromstring(exports.junit(run)).findall("testcase"))
    )
    message = texts.xml_safe(" ".join(f"{text}; {text}".split()))
    assert message in [each.get("message") for each in suite.iter("failure")]


@given(TEXT)
def test_only_characters_that_are_invalid_in_xml_are_escaped(text):
    """The result is valid in XML, and escaping it again changes nothing."""
    safe = texts.xml_safe(text)

    assert (safe == text) == (not re.search("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text))
    assert texts.xml_safe(safe) == safe
    parser = expat.ParserCreate()
    parser.Parse(f"<a>{svg._escaped(text)}</a>".encode(), True)


@BUDGET
@given(TEXT)
@example("a | b\\| c\n| d")
def test_a_markdown_table_has_the_same_cells_for_any_text(run, text):
    """A `|`, a backslash before one, or a line break would start another cell or row."""
    written, plain = exports.markdown(with_text(run, text)), exports.markdown(with_text(run, "parrot"))

    assert shape(written) == shape(plain)
    assert not re.search(r"(?<!\\)<[A-Za-z/!?]", re.sub(r"`[^\n]*`", "", written))


def shape(markdown: str) -> list[int]:
    """Return the number of cells of each table row, as GitHub parses it: a backslash escapes a character."""
    rows = [line for line in markdown.split("\n") if line.startswith("|")]
    return [len(re.findall(r"(?:\\.|[^\\|])*\|", row)) for row in rows]


@given(TEXT)
def test_a_code_span_contains_the_whole_text(text):
    """Its fence is longer than any run of backticks in it."""
    span = texts.markdown_code(text)
    fence = re.match("`+", span)

    if fence is None:
        assert not span and not text.strip()
        return
    assert "\n" not in span
    assert [len(run) for run in re.findall("`+", span)].count(len(fence[0])) == 2


@settings(BUDGET, max_examples=30)
@given(TEXT)
@example("<script>alert(1)</script>\x00\ud800")
def test_the_page_escapes_any_text(run, text):
    """It contains no tags from the text and no characters that are invalid in HTML or UTF-8."""
    html = render.render(with_text(run, text))

    html.encode("utf-8")
    assert "<script" not in html
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", html)


@pytest.mark.parametrize("text", ["\ud800", "\udce9.yaml", "\x00", "\uffff"])
def test_a_record_with_any_command_line_is_written_read_and_published(tmp_path: Path, text):
    """Regression: a file name that is not UTF-8 arrives as a lone surrogate, and the run was lost."""
    quiet = report_runs.quiet()
    doc = {**quiet.scenario_doc, "expect": text}
    odd = dataclasses.replace(quiet, scenario_doc=doc, command=f"tweetlab run {text}", logs={"x.log": text})
    kept = finish.finish(tmp_path, odd)

    again = record.read(kept.path)
    render.write(again)

    assert again.document["command"] == f"tweetlab run {text}"
    assert (publish.publish(again, "parrots", tmp_path / "gallery") / "record.json").read_text(
        encoding="utf-8"
    )
