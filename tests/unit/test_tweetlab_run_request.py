"""What a run request does."""

from scenarios import loader
from tweetlab.run import run_request
from tweetlab.terminal import Screen


def test_the_twin_predicts_quotas_and_scaling_too(monkeypatch):
    """It models both, so it can predict every scenario of the catalog."""
    request = run_request.RunRequest(loader.load("evening_spike"), "twin", "tweetlab run", False, False, 1, "", None, False)
    monkeypatch.setattr(run_request, "_predict_alone", lambda request, screen: request.scenario.cpu_quota)

    assert run_request.execute(request, Screen()) == [0.2]
