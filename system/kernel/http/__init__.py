"""The HTTP server of every service: a small ASGI application and uvicorn."""
