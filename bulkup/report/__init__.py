"""Printers of the engine's events: terminal, JSON, HTML, e-mail."""
