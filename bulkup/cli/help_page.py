"""Help pages: what a command does, examples, then its options in groups, its own ones first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

SECTIONS = (
    ("Target", ("target", "project", "database", "namespace", "local", "all_namespaces",
                "namespaces")),
    ("How fast", ("batch_size", "in_flight", "shards", "processes", "max_rate")),
    ("When to work", ("window", "health_url", "health_cmd", "max_hold")),
    ("When to stop", ("max_failures", "limit", "max_time", "retry_for", "conflict_retries",
                      "wait")),
    ("Report by mail", ("email_to", "email_from", "smtp", "smtp_plain")),
    ("Output and state", ("state_dir", "yes", "json", "quiet", "verbose", "progress", "help")),
)  # fmt: skip
"""Options that several commands share, by name. A command's own options come before them."""

Examples = Sequence[tuple[str, str]]
"""Pairs of a command and what it does."""


class HelpPage(click.Command):
    """A command whose help page has examples, and its options in groups."""

    def __init__(self, *args: Any, examples: Examples = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = examples
        self.shared = {"help"}
        """The names of its options that other commands have, too."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(self.examples, formatter)
        for title, params in self._sections(ctx):
            records = [record for param in params if (record := param.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def _sections(self, ctx: click.Context) -> Iterator[tuple[str, list[click.Parameter]]]:
        params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        by_name = {_name(param): param for param in params}
        shared = {name for _, names in SECTIONS for name in names if name in self.shared}
        yield "Options", [param for name, param in by_name.items() if name not in shared]
        for title, names in SECTIONS:
            found = {name: by_name[name] for name in names if name in by_name and name in shared}
            yield title, [found[name] for name in names if name in found]


def _name(param: click.Parameter) -> str:
    return "help" if "--help" in param.opts else str(param.name)


def write_examples(examples: Examples, formatter: click.HelpFormatter) -> None:
    if examples:
        with formatter.section("Examples"):
            formatter.write_dl(list(examples), col_max=50)
