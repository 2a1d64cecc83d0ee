"""Make strings harmless, and numbers and times readable.

Keys, exception messages, log lines and server messages hold whatever somebody stored: a terminal
escape that retitles the window, a bidi override that shows a key backwards, a newline that
forges a second line of the report. `clean` makes all of these visible.
"""

from __future__ import annotations

import os
import shlex
import unicodedata
from datetime import datetime, timezone

from bulkup.core.events import Detailed

VALUE_LIMIT = 200
"""Characters of one property value in a diff; --json prints the whole value."""
LINE_LIMIT = 2000
"""Characters of one error or log line: a few screens, and far from filling a mailbox."""
TRACEBACK_LINES = 60
TRACEBACK_WIDTH = 500

_JOINERS = "\u200c\u200d"
"""Format characters that Persian, Hindi and emoji need between letters; they are harmless."""


def clean(text: str, limit: int = LINE_LIMIT) -> str:
    """`text` as one harmless line of at most `limit` of its characters.

    Control characters (C0, DEL, C1), bidi and other format characters, line separators, lone
    surrogates and unassigned code points become backslash escapes: `\\n` is shown, not obeyed.
    """
    kept = text[:limit]
    if not kept.isprintable():
        kept = "".join(map(_visible, kept))
    if len(text) > limit:
        kept += f"… ({len(text):,} characters)"
    return kept


def clean_block(text: str) -> tuple[str, ...]:
    """The lines of `text`, each clean; of a long block only the first and last ones."""
    lines = text.rstrip().replace("\r\n", "\n").split("\n") if text.strip() else []
    if len(lines) > TRACEBACK_LINES:
        half = TRACEBACK_LINES // 2
        gone = len(lines) - 2 * half
        lines = [*lines[:half], f"  … {plural(gone, 'line')} left out …", *lines[-half:]]
    return tuple(clean(line.expandtabs(4), TRACEBACK_WIDTH) for line in lines)


def clean_message(text: str) -> tuple[str, ...]:
    """`text` as one clean line and, if it is `Detailed`, the lines below it."""
    if isinstance(text, Detailed):
        return clean(text.head), *clean_block(text.details)
    return (clean(text),)


def _visible(char: str) -> str:
    if char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs":
        return char
    return char.encode("unicode_escape").decode("ascii")


def plural(count: int, one: str, many: str = "") -> str:
    """`1 entity`, `34,006 entities`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def per_second(rate: float) -> str:
    return f"{rate:.1f}/s" if 0 < rate < 10 else f"{rate:,.0f}/s"


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `1 min 12 s`, `2 h 5 min`, `3 d 4 h`: at most two units."""
    seconds = max(seconds, 0.0)
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    left = round(seconds)
    if left >= 3600:
        left = round(left / 60) * 60
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def size(count: int) -> str:
    """`912 B`, `34 kB`, `1.2 MB`, `34 GB`: in powers of 1,000."""
    if count < 1000:
        return f"{count} B"
    amount, units = count / 1000, ["TB", "GB", "MB", "kB"]
    while amount >= 999.5 and len(units) > 1:
        amount /= 1000
        units.pop()
    unit = units[-1]
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:,.0f} {unit}"


def moment(when: datetime) -> str:
    """`2026-01-02 03:04:05 UTC`."""
    return f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def timed(line: str, when: datetime) -> str:
    """`03:05:17 UTC  12,345 of 34,006 ...`."""
    return f"{when.astimezone(timezone.utc):%H:%M:%S} UTC  {line}"


def iso(when: datetime) -> str:
    """`2026-01-02T03:04:05.678Z`, as JavaScript and most log collectors write it."""
    utc = when.astimezone(timezone.utc)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def show_command(run_id: str, state_file: str = "") -> str:
    """The command that shows a run, safe to paste into a shell. `state_file`: its checkpoint."""
    return run_command("show", run_id, state_file)


def run_command(verb: str, run_id: str, state_file: str) -> str:
    """A command on a run, safe to paste into a shell. `state_file`: its checkpoint."""
    words = ["bulkup", verb, clean(run_id)]
    state_dir = os.path.dirname(os.path.dirname(state_file))
    if state_file and state_dir != ".bulkup":
        words += ["--state-dir", clean(state_dir)]
    return shlex.join(words)
