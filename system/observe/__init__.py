"""Monitoring, with --observe: an exporter of store metrics, and a receiver that emulates PagerDuty and
OpsGenie.
"""
