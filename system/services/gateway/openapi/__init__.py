"""The OpenAPI document of the public API, one module per group of routes."""
