"""One run from its command to its report: prepare, start, resume, execute, continue its chain."""
