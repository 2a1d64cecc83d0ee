"""bulkup help"""

from __future__ import annotations

from difflib import get_close_matches

import click

from bulkup.cli.help_page import HelpPage


@click.command(
    "help",
    cls=HelpPage,
    examples=(
        ("bulkup help targets", "which Datastore a command works on"),
        ("bulkup help migrate", "the page of a command"),
    ),
)
@click.argument("topic", nargs=-1, metavar="[TOPIC]")
@click.pass_context
def command(ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Explain TOPIC, which is one of those below or a command; without TOPIC, list them.

    Topics: exit-codes, targets, parameters, config, environment, json, completion.
    """
    from bulkup.cli.topics import TOPICS

    parent = ctx.parent
    if not topic:
        click.echo(parent.get_help() if parent else "")
        click.echo("\nTopics of `bulkup help TOPIC`:")
        for name, (title, _) in TOPICS.items():
            click.echo(f"  {name:<12}  {title}")
        return
    name = "-".join(topic).lower().replace("_", "-")
    if name in TOPICS:
        title, text = TOPICS[name]
        click.echo(f"{title}\n")
        click.echo(text.strip("\n"))
        return
    context, words = parent, list(topic)
    while words and context is not None and isinstance(context.command, click.Group):
        found = context.command.get_command(context, words[0])
        if found is None:
            break
        context = click.Context(found, info_name=words.pop(0), parent=context)
    if words or context is None:
        whole = parent.command if parent else None
        known = whole.list_commands(ctx) if isinstance(whole, click.Group) else []
        close = get_close_matches(name, [*TOPICS, *known], n=1)
        what = f"did you mean {close[0]}?" if close else "`bulkup help` lists them"
        raise click.UsageError(f"there is no topic or command {name!r}; {what}")
    click.echo(context.get_help())
