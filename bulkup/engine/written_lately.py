"""What was written while neighbours were handled at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from bulkup.engine.batches import marks_written
from bulkup.engine.handled import Handled

MOST_MARKS = 10_000
"""With more than this, those that nobody can ask for any more are dropped."""


class WrittenLately:
    """Entities are numbered as they are added. An entity that is handed out when the first n have
    landed knows what these have written."""

    def __init__(self) -> None:
        self.number = 0
        """The number of the last entity that was added."""
        self._items: deque[tuple[int, Handled]] = deque()
        """Entities whose marks are not made yet, because most are never asked for."""
        self._marks: dict[bytes, int] = {}

    def add(self, item: Handled) -> None:
        self.number += 1
        item.number = self.number
        if item.writes:
            self._items.append((self.number, item))

    def landed(self, open_items: Iterable[Handled]) -> int:
        """The number up to which all have landed. `open_items`: for each shard, the oldest entity
        that has not."""
        return min((item.number for item in open_items), default=self.number + 1) - 1

    def since(self, number: int, reads: Sequence[bytes]) -> bool:
        """Whether an entity that was added after this number has written what was read."""
        while self._items:
            of_item, item = self._items.popleft()
            self._marks.update(dict.fromkeys(marks_written(item), of_item))
        return any(self._marks.get(mark, 0) > number for mark in reads)

    def forget(self, number: int) -> None:
        """Forget what was written up to this number: nobody will ask for it any more."""
        while self._items and self._items[0][0] <= number:
            self._items.popleft()
        if len(self._marks) > MOST_MARKS:
            self._marks = {mark: at for mark, at in self._marks.items() if at > number}
