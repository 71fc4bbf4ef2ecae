"""Scaling and restarting instances: autoscaler, outlier ejection, rolling restart, HAProxy's runtime API."""
