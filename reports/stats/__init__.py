"""Percentiles, histograms, and the comparison of repeated runs."""
