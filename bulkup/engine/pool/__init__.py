"""Worker processes for CPU-bound updaters."""
