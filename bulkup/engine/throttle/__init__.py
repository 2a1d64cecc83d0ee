"""How fast a run goes: rate limit, backoff, batch size, commits in flight."""
