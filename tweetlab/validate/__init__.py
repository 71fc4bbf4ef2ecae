"""Tests the twin on the real system: draws loads, predicts them, runs them and judges the predictions."""
