"""Timeline cache, hot tweets, like counts and rate limits on Redis. Key layout: `keys.md`; scripts: `lua/`."""
