"""The types of option values."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import click

from bulkup.core.errors import UsageError
from bulkup.core.webhook import Webhook, webhook

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def completed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The `shell_complete` of parameters that `completion.COMPLETERS` knows. `cli.call` puts the
    completers into the context, only when a shell asks for completions."""
    completers = ctx.obj["completers"]
    command = ctx.command.name if (ctx.command.name, param.name) in completers else "*"
    found: list[CompletionItem] = completers[command, param.name](ctx, param, incomplete)
    return found


_UNIT_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")


_WORDS = re.compile(r"(\d+)[ _-]*(years?|months?|y|mo|[a-z])[a-z]*")
_DAYS = {"y": 365, "mo": 30, "w": 7}


def _in_our_units(text: str) -> str:
    """`30 days` -> `30d`, `2w` -> `14d`; empty if the unit is not known."""
    found = _WORDS.fullmatch(text.strip().lower())
    if found is None:
        return ""
    number, unit = found[1], found[2][:2] if found[2][:2] == "mo" else found[2][0]
    if unit in _DAYS:
        return f"{int(number) * _DAYS[unit]}d"
    return f"{number}{unit}" if unit in _UNIT_S else ""


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """`90`, `90s`, `20m`, `1h30m` -> seconds."""

    name = "duration"

    def __init__(self, like: str = "90s, 20m or 1h30m") -> None:
        self._like = like

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, (int, float)):
            return float(value)
        match = _DURATION.fullmatch(value.strip().lower())
        if not match or not any(match.groups()):
            meant = _in_our_units(value)
            hint = f"did you mean {meant}?" if meant else f"write it like {self._like}"
            self.fail(f"{value!r} is not a duration; {hint}", param, ctx)
        parts = zip(match.groups(), _UNIT_S.values(), strict=True)
        return sum(float(number) * seconds for number, seconds in parts if number)


class _Parsed(click.ParamType, ABC):  # type: ignore[type-arg]  # generic only since click 8.4
    """A value that a function of a lower layer parses."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.parse(value)
        except UsageError as error:
            self.fail(error.message, param, ctx)

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """`value`: a string, or a value that `parse` has returned. Raises UsageError."""


class WebhookUrl(_Parsed):
    """A URL -> Webhook, which prints only its host."""

    name = "url"

    def parse(self, value: Any) -> Any:
        return value if isinstance(value, Webhook) else webhook(value)


class Time(_Parsed):
    """`2026-11-28T09:00Z`, `20m` (20 minutes ago) or `now` -> Moment."""

    name = "time"

    def parse(self, value: Any) -> Any:
        from bulkup.core.moment import NOW, Moment, parse_time

        if isinstance(value, Moment):
            return value
        text = value.strip()
        if text.lower() == "now":
            return NOW
        if text and _DURATION.fullmatch(text.lower()) and not text.isdecimal():
            return Moment(ago_s=Duration().convert(text, None, None))
        return parse_time(text)


class WholeNumber(click.IntRange):
    """A whole number in a range, which is also in the message for a value that is not a number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            int(value)
        except ValueError:
            limits = f"from {self.min} to {self.max}"
            if self.max is None:
                limits = f"of {self.min} or more"
            self.fail(f"{value!r} is not a whole number {limits}", param, ctx)
        return super().convert(value, param, ctx)


class WordOrNumber(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """A word -> None, or a number in a range."""

    def __init__(self, word: str, low: int, high: int) -> None:
        self.name = f"{word} or number"
        self._word, self._low, self._high = word, low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        text = value.strip().lower()
        if text == self._word:
            return None
        number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
        if not self._low <= number <= self._high:
            limits = f"from {self._low} to {self._high}"
            self.fail(f"{value!r} is neither {self._word} nor a number {limits}", param, ctx)
        return number


class Rate(_Parsed):
    """The values of `MaxRate.parse`."""

    name = "rate"

    def parse(self, value: Any) -> Any:
        from bulkup.engine.throttle.max_rate import MaxRate

        return value if isinstance(value, MaxRate) else MaxRate.parse(value)


class WindowText(_Parsed):
    """The values of `Window.parse`, and `off` -> a string that names the zone."""

    name = "window"

    def parse(self, value: Any) -> Any:
        from bulkup.core.window import Window

        return "off" if value.strip().lower() == "off" else str(Window.parse(value))


class HealthUrl(_Parsed):
    """An HTTP URL, or `off`. A value that is not valid is not repeated: it may hold a password."""

    name = "url"

    def parse(self, value: Any) -> Any:
        from bulkup.engine.options import checked_url

        return "off" if value.strip().lower() == "off" else checked_url(value)


class Share(_Parsed):
    """The values of `MaxDrift.parse`."""

    name = "share"

    def parse(self, value: Any) -> Any:
        from bulkup.core.plan_terms import MaxDrift

        return value if isinstance(value, MaxDrift) else MaxDrift.parse(value)


class Sample(_Parsed):
    """The values of `parse_sample`."""

    name = "percentage"

    def parse(self, value: Any) -> Any:
        from bulkup.local.importing.selection import parse_sample

        return value if isinstance(value, float) else parse_sample(value)


class NumberOrShare(_Parsed):
    """The values of `MaxFailures.of` -> 10, or "1%"."""

    name = "number or share"

    def parse(self, value: Any) -> Any:
        from bulkup.core.max_failures import MaxFailures

        return MaxFailures.of(value).stored


class Assignment(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """`NAME=VALUE`. An environment variable holds one per line."""

    name = "assignment"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [line for line in rv.splitlines() if line]


class Name(click.types.StringParamType):
    """A string for an option that takes several. An environment variable holds one per line."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return rv.splitlines()
