"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.named_target import NamedTarget, TargetName, check_chosen
from bulkup.cli.values import (
    Assignment,
    Duration,
    Share,
    WebhookUrl,
    completed,
)
from bulkup.core import plan_terms as drift
from bulkup.core.errors import UsageError
from bulkup.core.webhook import Webhook

if TYPE_CHECKING:
    from bulkup.report import MailSettings
    from bulkup.runs.target import TargetOptions

STATE_DIR = Path(".bulkup")

StateDir = Annotated[
    Path,
    click.Option(
        ["--state-dir"],
        type=click.Path(path_type=Path),
        default=STATE_DIR,
        show_default=True,
        metavar="DIR",
        help="Directory where run state lives.",
    ),
]
Json = Annotated[
    bool, click.Option(["--json"], is_flag=True, help="Print JSON, one object per line.")
]
Params = Annotated[
    tuple[str, ...],
    click.Option(
        ["-p", "--param"],
        type=Assignment(),
        multiple=True,
        metavar="NAME=VALUE",
        help="Set a parameter of the updater.",
    ),
]
RunName = Annotated[
    str | None,
    click.Argument(["run"], shell_complete=completed, required=False, metavar="RUN"),
]
"""Required; without it, the command's own error names the run that is likely meant."""
DryRun = Annotated[
    bool,
    click.Option(["-n", "--dry-run"], is_flag=True, help="Show what would change; write nothing."),
]
KeysFrom = Annotated[
    str | None,
    click.Option(
        ["--keys-from"],
        metavar="FILE",
        help="Handle the entities whose keys are in FILE (-: standard input), one per line or as "
        "JSON, as bulkup prints them.",
    ),
]
Yes = Annotated[bool, click.Option(["--yes"], is_flag=True, help="Do not ask for confirmation.")]
Wait = Annotated[
    float,
    click.Option(
        ["--wait"],
        type=Duration(),
        default="0s",
        metavar="DURATION",
        help="How long to wait while another process holds the run (10m; a number alone is "
        "seconds).  [default: exit 11 at once]",
    ),
]
AllowEmpty = Annotated[
    bool,
    click.Option(
        ["--allow-empty"],
        is_flag=True,
        help="Run even if the kind is empty and a similar name holds entities.",
    ),
]
Gate = Annotated[
    str | None,
    click.Option(
        ["--gate"],
        metavar="clean",
        help="Handle everything in a dry run first, and write only if nothing fails there.",
    ),
]


def begins_with_dry_pass(gate: str | None) -> bool:
    """Whether `--gate` is given. Raises UsageError for any gate but `clean`."""
    if gate not in (None, "clean"):
        raise UsageError(f"--gate is {gate!r}; the only gate is 'clean'")
    return gate is not None


Trace = Annotated[
    Path | None,
    click.Option(
        ["--trace"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write a trace of where the time goes to FILE, for https://ui.perfetto.dev.",
    ),
]
MaxDrift = Annotated[
    drift.MaxDrift,
    click.Option(
        ["--max-drift"],
        type=Share(),
        default="1%",
        show_default=True,
        metavar="N%",
        help="Stop a run with a plan when it exceeds the plan by more than N% of the planned "
        "entities.",
    ),
]
MIGRATIONS_DIR = Path("updaters")


def folder_option(help_text: str) -> click.Option:
    """The option --folder, with this help."""
    return click.Option(
        ["--folder", "--in"], type=click.Path(path_type=Path), metavar="DIR", help=help_text
    )


@dataclass(frozen=True)
class FolderArgs:
    """The folder of the migrations, for every command that takes one."""

    directory: Annotated[
        Path | None,
        click.Argument(
            ["directory"], metavar="[DIR]", type=click.Path(path_type=Path), required=False
        ),
    ]
    folder: Annotated[
        Path | None,
        folder_option("Folder of the migrations, another way to give DIR.  [default: updaters]"),
    ]

    @property
    def is_typed(self) -> bool:
        """Whether the folder was typed on the command line, and is neither a default nor
        configured."""
        return self.directory is not None or self._option_is_typed

    @property
    def _option_is_typed(self) -> bool:
        source = click.get_current_context().get_parameter_source("folder")
        return source is click.core.ParameterSource.COMMANDLINE

    @property
    def path(self) -> Path:
        """Raises click.UsageError."""
        if self.directory and self._option_is_typed and self.directory != self.folder:
            raise click.UsageError(
                f"two folders were given, {self.directory} and --in {self.folder}; give one"
            )
        return self.directory or self.folder or MIGRATIONS_DIR


@dataclass(frozen=True)
class TargetArgs:
    """Which Datastore. Where a field is None, the named target decides, or else the environment."""

    target: Annotated[
        NamedTarget | None,
        click.Option(
            ["--target"],
            type=TargetName(),
            shell_complete=completed,
            metavar="NAME",
            help="A target that the configuration file names.",
        ),
    ]
    project: Annotated[
        str | None,
        click.Option(
            ["--project"],
            help="Google Cloud project.  [default: as gcloud and its libraries find it]",
        ),
    ]
    database: Annotated[
        str | None,
        click.Option(["--database"], help="Named database.  [default: the (default) database]"),
    ]
    namespace: Annotated[
        str | None,
        click.Option(["--namespace"], help="Namespace.  [default: the default namespace]"),
    ]
    local: Annotated[
        str | None,
        click.Option(
            ["--local"],
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help="Use the embedded Datastore in FILE instead.",
        ),
    ]

    def options(self) -> TargetOptions:
        from bulkup.runs.target import TargetOptions

        check_chosen(click.get_current_context())
        named = self.target or NamedTarget("")
        return TargetOptions(
            self.project or named.project,
            named.database if self.database is None else self.database,
            named.namespace if self.namespace is None else self.namespace,
            self.local or named.local,
        )

    def words(self) -> list[str]:
        """The options as they are typed."""
        return typed_words(
            target=self.target.name if self.target else None,
            project=self.project,
            database=self.database,
            namespace=self.namespace,
            local=self.local,
        )


@dataclass(frozen=True)
class NamespacesArgs:
    """Several namespaces instead of one."""

    all_namespaces: Annotated[
        bool,
        click.Option(
            ["--all-namespaces"], is_flag=True, help="Work in every namespace, one after another."
        ),
    ]
    namespaces: Annotated[
        str | None,
        click.Option(
            ["--namespaces"],
            metavar="PATTERN",
            help="Work in each namespace that matches PATTERN, such as 'tenant-*'.",
        ),
    ]

    def pattern(self, target: TargetArgs) -> str | None:
        """The pattern that namespaces must match; None: only the target's namespace. Raises
        click.UsageError."""
        asked = {
            "--all-namespaces": self.all_namespaces,
            "--namespaces": self.namespaces is not None,
            "--namespace": target.namespace is not None,
        }
        names = [name for name, is_there in asked.items() if is_there]
        if len(names) > 1:
            raise click.UsageError(f"{names[0]} and {names[1]} cannot be used together")
        if self.namespaces == "":
            raise click.UsageError("--namespaces needs a pattern, such as 'tenant-*'")
        if self.all_namespaces:
            from bulkup.namespaces.find import ALL_NAMESPACES

            return ALL_NAMESPACES
        return self.namespaces

    def words(self) -> list[str]:
        if self.all_namespaces:
            return ["--all-namespaces"]
        return typed_words(namespaces=self.namespaces)


@dataclass(frozen=True)
class MailArgs:
    """Where the report is sent."""

    email_to: Annotated[
        tuple[str, ...],
        click.Option(
            ["--email-to"], multiple=True, metavar="ADDRESS", help="Mail the report to ADDRESS."
        ),
    ]
    email_from: Annotated[
        str | None, click.Option(["--email-from"], metavar="ADDRESS", help="Send it from ADDRESS.")
    ]
    smtp: Annotated[
        str | None,
        click.Option(
            ["--smtp"],
            metavar="URL",
            help="Mail server: smtp://user@host:587 (STARTTLS) or smtps://...; the password is "
            "read from $BULKUP_SMTP_PASSWORD.",
        ),
    ]
    smtp_plain: Annotated[
        bool,
        click.Option(
            ["--smtp-plain"],
            is_flag=True,
            help="Allow mail without encryption; to localhost it is allowed anyway.",
        ),
    ]

    webhook: Annotated[
        Webhook | None,
        click.Option(
            ["--webhook"],
            type=WebhookUrl(),
            metavar="URL",
            help="Post the report as JSON to URL, such as that of a Slack webhook. Others can read "
            "command lines, so set $BULKUP_WEBHOOK if it is secret.",
        ),
    ]

    def settings(self) -> MailSettings | None:
        """The mail settings; None: no mail. Raises UsageError."""
        from bulkup.report import mail_settings

        return mail_settings(self.email_to, self.email_from, self.smtp, plain=self.smtp_plain)

    def words(self) -> list[str]:
        """The options that were typed. Those from the environment or the configuration file need no
        repeating. The webhook is never among them: it is a secret.
        """
        typed = {name: getattr(self, name) for name in typed_names(MailArgs)}
        typed.pop("webhook", None)
        addresses = typed.pop("email_to", ()) if self.email_to else ()
        words = [word for address in addresses for word in ("--email-to", address)]
        words += ["--smtp-plain"] if typed.pop("smtp_plain", False) and self.email_to else []
        return words + (typed_words(**typed) if self.email_to else [])


@dataclass(frozen=True)
class OutputArgs:
    json: Json
    quiet: Annotated[
        bool,
        click.Option(
            ["-q", "--quiet"], is_flag=True, help="Print only the summary, failures and errors."
        ),
    ]
    verbose: Annotated[
        int,
        click.Option(
            ["-v", "--verbose"], count=True, help="Print more, and tracebacks of errors in bulkup."
        ),
    ]
    progress: Annotated[
        str,
        click.Option(
            ["--progress"],
            type=click.Choice(["auto", "plain", "tty", "json"]),
            default="auto",
            show_default=True,
            help="How to show progress on standard error: auto draws on a terminal and prints a "
            "line now and then elsewhere; plain prints lines, tty draws, json prints JSON.",
        ),
    ]

    @property
    def shows_progress(self) -> bool:
        """Whether a person wants to see what happens."""
        return not (self.json or self.quiet or self.progress == "json")


def typed_words(**values: object) -> list[str]:
    """`--name value` for each value that is not None."""
    return [
        word
        for name, value in values.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def state_dir_words(state_dir: Path) -> list[str]:
    return [] if state_dir == STATE_DIR else ["--state-dir", str(state_dir)]


def given_options(group: type[object]) -> list[str]:
    """The options of a group that were typed on the command line."""
    names = typed_names(group)
    params = click.get_current_context().command.params
    return [max(option.opts, key=len) for option in params if option.name in names]


def typed_names(group: type[object]) -> list[str]:
    """The fields of a group that were typed on the command line."""
    context, typed = click.get_current_context(), click.core.ParameterSource.COMMANDLINE
    names = [field.name for field in fields(group)]  # type: ignore[arg-type]
    return [name for name in names if context.get_parameter_source(name) is typed]
