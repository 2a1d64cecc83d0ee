"""The gates of a run: what its options and its updater say about when it may work."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.authoring.updater import Updater
from bulkup.core.vitals import Phase
from bulkup.core.window import Window
from bulkup.engine.checks import has_check
from bulkup.engine.health import Check, CommandCheck, HealthGate, UpdaterCheck, UrlCheck
from bulkup.engine.holding import Gate, Reason
from bulkup.engine.options import OFF, Options
from bulkup.engine.task import Surroundings, Task


class WindowGate:
    """`--window`."""

    def __init__(self, window: Window, unix: Callable[[], float]) -> None:
        self._window = window
        self._unix = unix

    def reason(self) -> Reason | None:
        now = self._unix()
        if self._window.is_open(now):
            return None
        why = f"outside the window {self._window} (--window)"
        return Reason(Phase.HELD, why, until=self._window.opens(now))

    def close(self) -> None:
        """Nothing to close."""


def gates_of(task: Task, surroundings: Surroundings) -> list[Gate]:
    """The gates of a run. The window comes first: outside it, no health check is asked."""
    options, clock = surroundings.options, surroundings.clock
    gates: list[Gate] = []
    if options.window is not None and options.window != OFF:
        gates.append(WindowGate(Window.parse(options.window), clock.unix))
    if checks := _checks_of(task, options):
        gates.append(HealthGate(checks, clock.monotonic))
    return gates


def useless_max_hold(updater: Updater, options: Options) -> str:
    """A warning if `--max-hold` was given, but no health check; otherwise empty."""
    has_option = any(each not in (None, OFF) for each in (options.health_url, options.health_cmd))
    if options.max_hold_s is None or has_option or _is_healthy(updater):
        return ""
    return (
        "--max-hold does nothing without a health check (--health-url, --health-cmd, or healthy of "
        "the updater); it does not count the time outside a --window"
    )


def _is_healthy(updater: Updater) -> bool:
    return has_check(updater, "healthy") and callable(updater.healthy)


def _checks_of(task: Task, options: Options) -> list[Check]:
    checks: list[Check] = []
    if _is_healthy(task.updater):
        checks.append(UpdaterCheck(task.updater, task.run_info.updater, task.rpc))
    if options.health_url is not None and options.health_url != OFF:
        checks.append(UrlCheck(options.health_url))
    if options.health_cmd is not None and options.health_cmd != OFF:
        checks.append(CommandCheck(options.health_cmd))
    return checks
