"""The version of bulkup: the package is built with it, run records carry it."""

__version__ = "0.1.0"
