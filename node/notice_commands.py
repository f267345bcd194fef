"""`spinenode notices`: what the operator was told, what waits, and whether the channels work at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from node import settings as node_settings
from node.config_option import CONFIG
from node.notices import Notice, NoticeState
from node.settings import Settings
from node.words import moment


@click.command(epilog="Example:  spinenode notices --test --config deploy/node.toml")
@CONFIG
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest last.")
@click.option("--test", "is_test", is_flag=True, help="Send a notice that says it is a test to every channel, now.")
def notices(config: Path | None, limit: int, is_test: bool) -> None:
    """Show what was told to the operator by webhook and e-mail, and what waits to be told."""
    loaded = node_settings.load(config)
    if is_test:
        _test(loaded)
        return
    from node.ledger_notices import Notices  # only now: other commands do without a database
    from node.overview import opened

    with opened(loaded) as database:
        told = Notices(database).newest(limit=limit)
    if not told:
        where = "nothing had to be told yet" if loaded.notices.is_set else "nobody is told: set [notices]"
        click.echo(where)
    for notice in told:
        click.echo("\n".join(_lines(notice)))


def _lines(notice: Notice) -> Iterator[str]:
    yield f"{moment(notice.made_at)}  {notice.channel:<8} {notice.event:<13} {_state(notice)}"
    yield f"    {notice.text}"


def _state(notice: Notice) -> str:
    if notice.state is NoticeState.SENT and notice.sent_at is not None:
        return f"told {moment(notice.sent_at)}"
    what = "given up" if notice.state is NoticeState.GIVEN_UP else "waits"
    return f"{what} after {notice.attempts} attempts: {notice.last_status or 'not tried yet'}"


def _test(loaded: Settings) -> None:
    from node.bell import channels_of
    from node.webhook import NotTold

    channels = channels_of(loaded.notices)
    if not channels:
        raise click.ClickException("there is nobody to tell: set webhook_url or email_host in [notices]")
    now = datetime.now(UTC)
    content = {
        "schema": 1,
        "event": "test",
        "subject": "a test",
        "text": "This is a test: notices of this node arrive here.",
        "at": now.isoformat(timespec="seconds"),
        "node": f"{loaded.receiver.ae_title}@{socket.gethostname()}",
        "occasion": f"test {now.isoformat()}",
    }
    failed = []
    for name, channel in channels.items():
        try:
            click.echo(f"{name}: {channel.tell(content)}")
        except NotTold as error:
            failed.append(f"{name}: {error}")
    if failed:
        raise click.ClickException("\n".join(failed))
