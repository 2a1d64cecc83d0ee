"""The options that take a command through many namespaces, and `bulkup run` with them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from bulkup.core.events import Listener, Report

F = TypeVar("F", bound=Callable[..., Any])


def namespaces(function: F) -> F:
    """`--all-namespaces` and `--namespaces`; `pattern_of` reads them."""
    every = click.option(
        "--all-namespaces", is_flag=True, help="In every namespace, one after the other."
    )
    some = click.option(
        "--namespaces", metavar="PATTERN",
        help="In each namespace that fits, such as 'tenant-*'.",
    )  # fmt: skip
    return every(some(function))


def pattern_of(given: dict[str, Any]) -> str | None:
    """Which namespaces are meant; None: the one of `--namespace`. Raises click.UsageError."""
    asked = [
        option
        for option, there in (
            ("--all-namespaces", given["all_namespaces"]),
            ("--namespaces", given["namespaces"] is not None),
            ("--namespace", given["namespace"] is not None),
        )
        if there
    ]
    if len(asked) > 1:
        raise click.UsageError(f"{asked[0]} and {asked[1]} exclude each other")
    if given["namespaces"] == "":
        raise click.UsageError("--namespaces takes a pattern, such as 'tenant-*'")
    if given["all_namespaces"]:
        from bulkup.namespaces.find import ALL_NAMESPACES

        return ALL_NAMESPACES
    pattern: str | None = given["namespaces"]
    return pattern


def words_of(given: dict[str, Any], options: Sequence[str]) -> list[str]:
    """What was given for these options, and what else goes on with it needs, as it is typed."""
    from bulkup.cli.session import options_of

    words = ["--all-namespaces"] if given["all_namespaces"] else []
    for name in (*options, "namespaces"):
        if given[name] is not None:
            words += [f"--{name}", str(given[name])]
    words += options_of(given).words()
    if given["state_dir"] != Path(".bulkup"):
        words += ["--state-dir", str(given["state_dir"])]
    return words


def run_each(given: dict[str, Any], pattern: str, listener: Listener) -> Report:
    """`bulkup run` over namespaces. Raises BulkupError."""
    from bulkup.authoring.parameters import parse_assignments
    from bulkup.cli.session import confirm_target, options_of
    from bulkup.namespaces.group_run import run_in_namespaces
    from bulkup.report.namespace_grid import namespace_names
    from bulkup.runs.context import RunContext
    from bulkup.runs.prepare import load_updater
    from bulkup.runs.target import TargetOptions, open_target

    if given["no_record"]:
        raise click.UsageError(
            "--no-record does not go with several namespaces: the run records say which are done"
        )
    words = ["bulkup", "run", given["updater"]]
    for assignment in given["param"]:
        words += ["-p", assignment]
    words += words_of(given, ("project", "database", "local"))
    context = RunContext(
        options_of(given, dry_run=given["dry_run"]),
        given["state_dir"],
        listener,
        given["wait"],
        resume_command=shlex.join(words),
    )
    loaded = load_updater(given["updater"], parse_assignments(given["param"]))
    loaded.create()
    with open_target(
        TargetOptions(given["project"], given["database"], None, given["local"])
    ) as target:

        def confirm(found: Sequence[str]) -> None:
            where = f"in {len(found)} namespaces ({namespace_names(found)})"
            confirm_target(f"Run {loaded.source.name} {where}", target, given)

        return run_in_namespaces(
            loaded, target, pattern, context, fresh=given["new"], confirm=confirm
        )
