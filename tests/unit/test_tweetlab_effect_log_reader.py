"""Effect logs: a truncated last line is not an error, a truncated line in the middle is."""

import pytest

from system.kernel.errors import CouldNotRun
from tweetlab.run import effect_log_reader

GOOD = '{"group":"fanout","event":"7","key":1,"kind":"new_tweet","applied":true,"path":"push","targets":3,"at_ns":%d}\n'


def test_effects_of_all_workers_are_ordered_by_time(tmp_path):
    """Two workers' logs are one table; rows outside the run are left out."""
    (tmp_path / "a.jsonl").write_text(GOOD % 30 + GOOD % 10)
    (tmp_path / "b.jsonl").write_text(GOOD % 20 + GOOD % 99)

    table = effect_log_reader.read(tmp_path, from_ns=10, until_ns=50)

    assert list(table["at_ns"]) == [10, 20, 30]


def test_a_worker_killed_while_writing_leaves_a_truncated_last_line(tmp_path):
    """The truncated line is left out, the others count."""
    (tmp_path / "a.jsonl").write_text(GOOD % 30 + '{"group":"fan')

    assert len(effect_log_reader.read(tmp_path)) == 1


def test_a_truncated_line_in_the_middle_is_reported_with_its_number(tmp_path):
    """It means lost effects, which no checker may miss."""
    (tmp_path / "a.jsonl").write_text('{"group":"fan\n' + GOOD % 30)

    with pytest.raises(CouldNotRun, match=r"a\.jsonl line 1"):
        effect_log_reader.read(tmp_path)


def test_no_log_is_an_empty_table(tmp_path):
    """A lab without workers has no effects."""
    assert effect_log_reader.read(tmp_path).empty
