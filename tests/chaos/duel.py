"""Two runners of one run at once, each on its own copy of the state, stepped in a chosen order.

A step of a runner goes from one call it sends to the next. Only one runner moves at any time, so a
schedule is repeatable; the other is like a suspended process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import Report
from tests.chaos.bench import OnSend

STEP_TIMEOUT_S = 60

Work = Callable[[OnSend], Report]


class Runner:
    """Runs `work` in a thread that halts before each call it sends."""

    def __init__(self, name: str, work: Work) -> None:
        self.name = name
        self.report: Report | None = None
        self.exit_code: Exit | None = None
        self.steps = 0
        self.bug: BaseException | None = None
        self._work = work
        self._may_go = threading.Semaphore(0)
        self._halted = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._started = False

    @property
    def over(self) -> bool:
        return self.exit_code is not None or self.bug is not None

    def _live(self) -> None:
        try:
            self.report = self._work(self._halt)
            self.exit_code = self.report.exit_code
        except BulkupError as error:
            self.exit_code = error.exit_code
        except BaseException as error:
            self.bug = error
        finally:
            self._halted.release()

    def _halt(self, number: int, name: str) -> None:
        self._halted.release()
        if not self._may_go.acquire(timeout=STEP_TIMEOUT_S):
            raise TimeoutError(f"{self.name} was never stepped again")

    def step(self) -> None:
        """Continue up to the next call, or to the end."""
        assert not self.over
        self.steps += 1
        if self._started:
            self._may_go.release()
        else:
            self._started = True
            self._thread.start()
        assert self._halted.acquire(timeout=STEP_TIMEOUT_S), f"{self.name} makes no step"
        if self.over:
            self._thread.join()

    def run_to_end(self) -> None:
        while not self.over:
            self.step()
