"""How errors become exit codes: what `bulkup.cli.call` and the sessions of commands share."""

from __future__ import annotations


class ShownError(Exception):
    """An error that a command has printed in its own way; all that is left is to exit."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
