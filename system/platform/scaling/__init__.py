"""Instances that come and go: autoscaler, outlier ejection, rolling restart, and HAProxy at run time."""
