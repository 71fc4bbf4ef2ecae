"""Monitoring, with --observe: an exporter of store metrics, and a PagerDuty and OpsGenie emulator."""
