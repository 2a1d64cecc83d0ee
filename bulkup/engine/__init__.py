"""Query -> shards -> pages -> batches -> commits."""
