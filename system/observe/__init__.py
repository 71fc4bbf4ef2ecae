"""What looks on, with --observe: an exporter of the stores' counts, a receiver that plays PagerDuty and OpsGenie."""
