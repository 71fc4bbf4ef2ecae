"""Burn-rate alerts need evidence: which fire on a lab that just started, and on one that ran for days.

Each series has a value every 2 s, as scraped; alerts are counted by their windows.
"""

import shutil
import subprocess

import pytest
import yaml

from system.platform import alerting

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is missing; `tweetlab setup --observe` installs it with Prometheus",
)
STEP_S = 2
FAST = {"1m/5s", "6m/30s"}


def steps(*parts):
    """Return a counter in promtool's notation from (seconds, events per second) parts; it starts at 0."""
    value, text = 0, "0"
    for length_s, per_s in parts:
        count, increment = length_s // STEP_S, per_s * STEP_S
        text += f" {value + increment}+{increment}x{count - 1}"
        value += increment * count
    return text


def responses(*parts):
    """Return the responses of the public load balancer from (seconds, good per second, 5xx per second) parts."""
    rows = {
        "2xx": [(length_s, good) for length_s, good, _ in parts],
        "5xx": [(length_s, bad) for length_s, _, bad in parts],
    }
    return [
        {
            "series": f'haproxy_backend_http_responses_total{{proxy="gateway",code="{code}"}}',
            "values": steps(*row),
        }
        for code, row in rows.items()
    ]


def promtool(tmp_path, every_s, **test):
    """Run one promtool test of the lab's rules; return its output, empty if everything is as expected."""
    (tmp_path / "rules.yml").write_text(alerting.rules_text())
    file = tmp_path / "tests.yml"
    order = [group["name"] for group in alerting.rules()["groups"]]  # otherwise promtool picks a random order
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": ["rules.yml"],
                "evaluation_interval": f"{every_s}s",
                "group_eval_order": order,
                "tests": [{"interval": f"{every_s}s", **test}],
            }
        )
    )
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=120
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def differences(tmp_path, series, expected, every_s=STEP_S):
    """Return where the windows of firing alerts differ from `expected`: time in seconds -> windows."""
    query = 'count by (windows) (ALERTS{alertname="BudgetBurn",alertstate="firing"})'
    checks = [
        {
            "expr": query,
            "eval_time": f"{at_s}s",
            "exp_samples": [{"labels": f'{{windows="{pair}"}}', "value": 1} for pair in sorted(windows)],
        }
        for at_s, windows in expected.items()
    ]
    return promtool(tmp_path, every_s, input_series=series, promql_expr_test=checks)


def test_the_first_slow_deliveries_of_a_lab_do_not_page(tmp_path):
    """9 of the first 12 tweets took more than 5 s while caches were cold: too few to be a rate."""
    series = [
        {"series": "tweetlab_delivery_seconds_count", "values": steps((60, 3))},
        {"series": 'tweetlab_delivery_seconds_bucket{le="5.0"}', "values": "0 0 3+6x28"},
    ]
    assert differences(tmp_path, series, {at_s: set() for at_s in range(0, 60, STEP_S)}) == ""


def test_long_windows_do_not_fire_before_they_are_full(tmp_path):
    """Five minutes of outage in the first 15: the windows of minutes page, those of hours do not."""
    series = responses((600, 20, 0), (300, 0, 20), (60, 20, 0))
    assert differences(tmp_path, series, {598: set(), 890: FAST}) == ""


def test_a_ticket_of_three_days_is_opened_once_three_days_were_observed(tmp_path):
    """0.2 % of errors burn twice too fast; three days must have passed before their window says so."""
    four_min, hour = 240, 3_600  # a value every 4 min keeps the test short
    series = [
        {
            "series": f'haproxy_backend_http_responses_total{{proxy="gateway",code="{code}"}}',
            "values": f"0+{increment}x1150",
        }
        for code, increment in (("2xx", 998), ("5xx", 2))
    ]
    expected = {71 * hour: {"72m/6m"}, 73 * hour: {"72m/6m", "3d/6h"}}
    assert differences(tmp_path, series, expected, four_min) == ""


@pytest.mark.parametrize("healthy_s", [10, 30, 120, 400])
def test_an_outage_at_20_requests_a_second_pages_with_the_second_scrape(tmp_path, healthy_s):
    """A total outage: page after 4 s at the latest, as without these conditions."""
    series = responses((healthy_s, 20, 0), (60, 0, 20))
    query = 'count(ALERTS{alertname="BudgetBurn",alertstate="firing",severity="page",windows="1m/5s"})'
    checks = [
        {"expr": query, "eval_time": f"{healthy_s}s", "exp_samples": []},
        {"expr": query, "eval_time": f"{healthy_s + 4}s", "exp_samples": [{"labels": "{}", "value": 1}]},
    ]
    assert promtool(tmp_path, STEP_S, input_series=series, promql_expr_test=checks) == ""


@pytest.mark.parametrize(("bad", "windows"), [(9, set()), (12, FAST)])
def test_fewer_than_ten_bad_events_do_not_page(tmp_path, bad, windows):
    """At 3 requests a second 9 errors are a burn rate of 50, and the true rate could be a tenth of that."""
    series = responses((600, 3, 0), (bad // 3 * 2, 1.5, 1.5), (20, 3, 0))
    assert differences(tmp_path, series, {600 + bad // 3 * 2: windows}) == ""


def test_an_alert_of_an_unfilled_window_says_how_much_it_contains(tmp_path):
    """24 s after the start a window of a minute contains 24 s; once it is filled, the summary omits this."""
    text = (
        "availability: budget burns more than 14.4 times too fast over 1m/5s (real windows divided by 60)"
    )
    labels = {
        "severity": "page",
        "slo": "availability",
        "set": "compressed",
        "factor": "60",
        "windows": "1m/5s",
    }
    other = {**labels, "windows": "6m/30s"}
    slower = text.replace("14.4", "6").replace("1m/5s", "6m/30s")

    def alerts(first, second):
        return [
            {"exp_labels": labels, "exp_annotations": {"summary": text + first}},
            {"exp_labels": other, "exp_annotations": {"summary": slower + second}},
        ]

    checks = [
        {
            "alertname": "BudgetBurn",
            "eval_time": "24s",
            "exp_alerts": alerts(
                "; the window holds only 24s so far", "; the window holds only 24s so far"
            ),
        },
        {
            "alertname": "BudgetBurn",
            "eval_time": "100s",
            "exp_alerts": alerts("", "; the window holds only 1m 40s so far"),
        },
        {"alertname": "BudgetBurn", "eval_time": "400s", "exp_alerts": alerts("", "")},
    ]
    series = responses((10, 20, 0), (600, 0, 20))
    assert promtool(tmp_path, STEP_S, input_series=series, alert_rule_test=checks) == ""
