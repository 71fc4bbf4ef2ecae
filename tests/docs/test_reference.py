"""Docs are complete and true: generated pages stand as the tables say, links lead somewhere, README's commands exist."""

import re
from pathlib import Path

import pytest

from bench import reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_a_generated_page_is_what_its_table_says(name):
    """`make reference` was run after the last change of a table."""
    assert (reference.FOLDER / name).read_text() == reference.PAGES[name]().rstrip() + "\n"


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.standin.yml"])
def test_a_compose_file_is_what_the_blueprint_table_says(name):
    """`make reference` was run after the last change of the blueprint, a server or an image."""
    assert (ROOT / name).read_text() == reference.compose_files()[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page):
    """A page that is named and does not exist is a promise broken."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)  # code may index and call: f[x](y)
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", prose)

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_make_target_and_command_that_is_named_exists(page):
    """`make demo` and `tweetlab up` in a text are real."""
    from tweetlab.cli import COMMANDS

    text, makefile = page.read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`(?:ROW=\w+ )?make ([a-z-]+)", text))
    commands = set(re.findall(r"(?:^|`)(?:bin/)?tweetlab ([a-z]+)", text, flags=re.M))

    assert [t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.M)] == []
    assert [c for c in commands if c not in COMMANDS] == []


def test_the_page_of_races_names_every_race_test_and_no_other():
    """A race without a row is hidden; a row without its test is a promise broken."""
    text = (ROOT / "docs" / "correctness.md").read_text()
    code = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    races = [path.read_text() for path in (ROOT / "tests" / "integration").glob("test_races_*.py")]
    named = set(re.findall(r"`(test_\w+)`", text))

    assert sorted(named - set(re.findall(r"def (test_\w+)\(", "\n".join(code)))) == []
    assert sorted(set(re.findall(r"def (test_\w+)\(", "\n".join(races))) - named) == []


def test_every_named_place_of_the_code_stands_on_the_page_of_races():
    """A place at which a test can hold a task is of use only to those who know of it."""
    text = (ROOT / "docs" / "correctness.md").read_text()
    code = "\n".join(path.read_text() for path in (ROOT / "system").rglob("*.py"))
    places = set(re.findall(r'checkpoints\.reached\("([a-z_.]+)"', code))

    assert len(places) > 10
    assert sorted(place for place in places if f"`{place}`" not in text) == []


def test_the_readme_names_what_is_downloaded_and_its_licence():
    """MinIO (AGPL) and Elasticsearch are separate programs."""
    text = (ROOT / "README.md").read_text()

    assert all(word in text for word in ("AGPL", "MinIO", "Elasticsearch", "make demo", "make test"))
