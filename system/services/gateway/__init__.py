"""The API gateway: tokens, deadlines, rate limits, and forwarding to the services behind the mesh."""
