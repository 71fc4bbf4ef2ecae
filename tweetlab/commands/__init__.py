"""The commands, one module per group: `lab` manages servers, `run` runs scenarios, `results` reads records and reports."""
