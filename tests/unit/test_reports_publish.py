"""A published run does not identify its machine or its user."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from reports import finish, publish, record
from system.kernel import errors
from tests.helpers import report_runs

OWNER = publish.Owner(("pollys-laptop", "polly77"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> record.Run:
    host = {"cpu_model": "Parrot 3000", "cores": 2, "mem_mib": 24064, "steal": 0.001, "hostname": "pollys-laptop"}
    given = report_runs.quiet(
        host=host,
        command="/home/polly77/tweetlab/bin/tweetlab run first_run --graph /home/polly77/birds.edges",
        platform={"cache": "/home/polly77/.cache/tweetlab", "gateway": "127.1.9.1:8080", "proxy": "10.1.2.3"},
    )
    return finish.finish(tmp_path_factory.mktemp("runs"), given, report_runs.twin(), "quick calibration, 1 load")


def test_a_published_run_is_report_and_record(run: record.Run, tmp_path: Path) -> None:
    """Two files, at most 1 MB together."""
    folder = publish.publish(run, "first_run", tmp_path, OWNER)
    assert sorted(path.name for path in folder.iterdir()) == ["record.json", "report.html"]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 1_000_000


def test_host_user_paths_and_addresses_are_redacted(run: record.Run, tmp_path: Path) -> None:
    """The command keeps the file names; loopback addresses stay, since they identify nobody."""
    folder = publish.publish(run, "first_run", tmp_path, OWNER)
    document = json.loads((folder / "record.json").read_text())
    assert document["command"] == "<path>/tweetlab run first_run --graph <path>/birds.edges"
    assert document["platform"] == {"cache": "<path>/tweetlab", "gateway": "127.1.9.1:8080", "proxy": "<address>"}
    assert "hostname" not in document["host"]
    for path in folder.iterdir():
        text = path.read_text()
        assert "polly77" not in text
        assert "pollys-laptop" not in text
        assert "/home/" not in text


def test_the_route_home_stays_in_a_published_record(run: record.Run, tmp_path: Path) -> None:
    """`home` is dropped if it is a path; the route of that name keeps its counts."""
    folder = publish.publish(run, "first_run", tmp_path, OWNER)
    document = json.loads((folder / "record.json").read_text())
    assert document["summary"]["routes"]["home"] == run.document["summary"]["routes"]["home"]
    assert "home p99, steady" in (folder / "report.html").read_text()
    assert publish.redact({"home": "/home/polly77", "mix": {"home": 60}}, OWNER) == {"mix": {"home": 60}}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("log in /home/polly77/x.log", ["/home/polly77/x.log", "polly77"]),
        ("asked 192.168.7.9 and 127.1.20.1", ["192.168.7.9"]),
        ("on pollys-laptop", ["pollys-laptop"]),
        ("fe80:0:0:0:1:2:3:4", ["fe80:0:0:0:1:2:3:4"]),
        ("served /2/tweets/7 at 12:30:01 by redis 7.0.15", []),
        ('<path d="M0 50l10-5" transform="scale(.1)"/>', []),
    ],
)
def test_the_scan_finds_identifying_text(text: str, found: list[str]) -> None:
    """Paths, non-loopback addresses and names; but not routes, versions and drawings."""
    assert publish.identifying(text, OWNER) == found


def test_identifying_text_refuses_the_publication(
    run: record.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the text that was not redacted, and nothing is written."""
    monkeypatch.setattr(publish, "redact", lambda value, owner: value)
    with pytest.raises(errors.WrongInput, match="still contains '/home/polly77/"):
        publish.publish(run, "first_run", tmp_path / "gallery", OWNER)
    assert not (tmp_path / "gallery").exists()


def test_a_run_too_large_for_the_gallery_is_refused(
    run: record.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has value, bound and fix."""
    monkeypatch.setattr(publish, "LIMIT_BYTES", 1000)
    with pytest.raises(errors.WrongInput, match=r"bytes; the gallery allows 1,000: publish a shorter run"):
        publish.publish(run, "first_run", tmp_path, OWNER)


@pytest.mark.parametrize("name", ["../etc", "First Run", "", "a/b"])
def test_an_invalid_gallery_name_is_refused(run: record.Run, tmp_path: Path, name: str) -> None:
    """Only a-z, 0-9, _ and - are allowed."""
    with pytest.raises(errors.WrongInput, match="is not a valid gallery name"):
        publish.publish(run, name, tmp_path, OWNER)


def test_publishing_again_replaces_the_old_files(run: record.Run, tmp_path: Path) -> None:
    """The folder contains only the newer run."""
    publish.publish(run, "first_run", tmp_path, OWNER)
    newer = dataclasses.replace(run, document={**run.document, "commit": "7777777"})
    folder = publish.publish(newer, "first_run", tmp_path, OWNER)
    assert json.loads((folder / "record.json").read_text())["commit"] == "7777777"
    assert [path.name for path in tmp_path.iterdir()] == ["first_run"]
