"""Docs are complete and true: generated pages stand as the tables say, links lead somewhere, README's commands exist."""

import re
from pathlib import Path

import pytest

from tweetlab import reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_a_generated_page_is_what_its_table_says(name):
    """`make reference` was run after the last change of a table."""
    assert (reference.FOLDER / name).read_text() == reference.PAGES[name]().rstrip() + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page):
    """A page that is named and does not exist is a promise broken."""
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_make_target_and_command_that_is_named_exists(page):
    """`make demo` and `tweetlab up` in a text are real."""
    from tweetlab.cli import COMMANDS

    text, makefile = page.read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`(?:ROW=\w+ )?make ([a-z]+)", text))
    commands = set(re.findall(r"(?:^|`)(?:bin/)?tweetlab ([a-z]+)", text, flags=re.M))

    assert [t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.M)] == []
    assert [c for c in commands if c not in COMMANDS] == []


def test_the_readme_names_what_is_downloaded_and_its_licence():
    """MinIO (AGPL) and Elasticsearch are separate programs."""
    text = (ROOT / "README.md").read_text()

    assert all(word in text for word in ("AGPL", "MinIO", "Elasticsearch", "make demo", "make test"))
