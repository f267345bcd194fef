"""`spinenode dead-letters`: the operator's words for what did not reach an archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node import settings as node_settings
from node.config_option import CONFIG
from node.settings import Settings

if TYPE_CHECKING:
    from node.dead_letters import Chosen


class _Numbers(click.ParamType[range]):
    """A letter's number, or several in a row: 41-49."""

    name = "NUMBER"

    def convert(self, value: str | range, param: click.Parameter | None, ctx: click.Context | None) -> range:
        if isinstance(value, range):
            return value
        first, _, last = value.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            self.fail(f"{value!r} is no number of a dead letter (as 41) or span of them (as 41-49)", param, ctx)
        return range(int(first), int(last or first) + 1)


_Command = Callable[..., None]


def _selects(command: _Command) -> _Command:
    """Which letters: numbers, a study, an archive, or all."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="Every dead letter."),
        click.option("--archive", default="", metavar="NAME", help="Those to this archive."),
        click.option("--study", default="", metavar="STUDY", help="Those of this study (number or UID)."),
        click.argument("numbers", nargs=-1, type=_Numbers(), metavar="NUMBER..."),
        CONFIG,
    ):
        command = option(command)
    return command


@click.group("dead-letters", invoke_without_command=True, epilog="Example:  spinenode dead-letters --config node.toml")
@CONFIG
@click.pass_context
def dead_letters(context: click.Context, config: Path | None) -> None:
    """Show the results that did not reach an archive; retry, redirect or discard them.

    Nothing leaves this list by itself.
    """
    context.obj = config
    if context.invoked_subcommand is None:
        from node import dead_letters as letters  # only now: the supervisor does without a database and pydicom

        click.echo(letters.shown(node_settings.load(config), letters.Chosen()))


@dead_letters.command(epilog="Example:  spinenode dead-letters retry 41-49 --config node.toml")
@_selects
@click.pass_context
def retry(context: click.Context, /, **words: Any) -> None:
    """Send dead letters again, at once, and for as long as a new result."""
    from node import dead_letters as letters

    _say(context, words, letters.retry)


@dead_letters.command(epilog="Example:  spinenode dead-letters redirect --to archive2 --study 17 --config node.toml")
@click.option("--to", required=True, metavar="ARCHIVE", help="Name of an archive of the settings.")
@_selects
@click.pass_context
def redirect(context: click.Context, /, to: str, **words: Any) -> None:
    """Send the results to another archive instead."""
    from node import dead_letters as letters

    _say(context, words, lambda settings, chosen: letters.redirect(settings, chosen, to))


@dead_letters.command(epilog="Example:  spinenode dead-letters discard --study 17 --config node.toml")
@_selects
@click.pass_context
def discard(context: click.Context, /, **words: Any) -> None:
    """Take dead letters off the list: nobody sends them any more. The results stay in the spool."""
    from node import dead_letters as letters

    _say(context, words, letters.discard)


def _say(context: click.Context, words: Mapping[str, Any], act: Callable[[Settings, Chosen], str]) -> None:
    """Do it to the chosen letters; without any word of choice it would be all of them, which takes --all."""
    from node import dead_letters as letters

    numbers = tuple(words["numbers"])
    if not (numbers or words["study"] or words["archive"] or words["everything"]):
        raise click.UsageError("which? Give NUMBER..., --study, --archive or --all")
    chosen = letters.Chosen(numbers=numbers, study=words["study"], archive=words["archive"])
    try:
        click.echo(act(node_settings.load(words["config"] or context.obj), chosen))
    except letters.NoSuchLetters as error:
        raise click.ClickException(str(error)) from error
