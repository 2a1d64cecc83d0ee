"""A terminal in memory: what a person would see, and what has scrolled out of sight."""

from __future__ import annotations

import pyte


class Terminal:
    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        # As a terminal in its usual mode does for a program.
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)
        self._fed = 0

    def feed(self, output: str) -> None:
        self._stream.feed(output)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without empty lines at its end."""
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def scrolled(self) -> list[str]:
        """What has scrolled out of sight, and can be scrolled back to."""
        top = self.screen.history.top
        width = self.screen.columns
        return ["".join(line[x].data for x in range(width)).rstrip() for line in top]

    def __str__(self) -> str:
        return "\n".join(self.lines)
