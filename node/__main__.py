"""The operator's words. Each command says what it did, and what to do when it could not."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click
from tqdm import tqdm

from node import settings as node_settings
from node.config_option import CONFIG
from node.dead_letter_commands import dead_letters
from node.notice_commands import notices
from node.settings import Settings, SettingsError
from node.settings_monitoring import ways_to_be_told
from node.training_commands import evaluate, train


class _AeTitle(click.ParamType[str]):
    name = "AE title"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return node_settings.checked_ae_title(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Commands(click.Group):
    """Turns the errors that an operator can mend into one plain message and exit status 1."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except SettingsError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="spinenode", message="spinenode %(version)s (research use only)")
def main() -> None:
    """Grades the discs of lumbar MRI and writes the results back to the archive. Research use only.

    \b
    A first look:        spinenode demo
    Run the node:        spinenode serve --config deploy/node.toml
    Grade a folder:      spinenode grade --out results DIR
    """
    # Threads of torch that wait must not spin: beside other work on the same cores that slows grading much.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@main.command(epilog="Example:  spinenode serve --config deploy/node.toml")
@CONFIG
def serve(config: Path | None) -> None:
    """Run the node until it is told to stop (Ctrl-C or SIGTERM)."""
    from node import service

    try:
        sys.exit(service.serve(_load(config)))
    except service.CannotServe as error:
        raise click.ClickException(str(error)) from error


@main.command(epilog="Example:  spinenode demo --out demo-output")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo-output"), show_default=True)
@click.option("--keep", is_flag=True, help="Leave node and archive running afterwards, to look around.")
def demo(out: Path, keep: bool) -> None:
    """Show the main job: a synthetic study through a node into a small archive, on loopback."""
    from node import demo as demonstration

    try:
        demonstration.run(out, keep_running=keep, say=click.echo)
    except demonstration.DemoFailed as error:
        raise click.ClickException(str(error)) from error


@main.command(epilog="Example:  spinenode grade --out results --json grades.jsonl study1 study2")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--json", "json_file", metavar="FILE", help="One line of JSON for each DIR, in order; - = standard output."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the DICOM objects and PNGs here.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="CPU threads; 0 = one for each core.")
@click.option(
    "--withhold-levels-below",
    metavar="SURE",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Number discs whose level is less sure (0-1) instead of naming them.",
)
def grade(  # noqa: PLR0913, PLR0917 - one for each option
    folders: tuple[Path, ...],
    json_file: str | None,
    out: Path | None,
    device: str,
    threads: int,
    withhold_levels_below: float,
) -> None:
    """Grade series folders off-line, without a node. Each DIR holds the series of one study."""
    for folder in folders:
        if not folder.is_dir():
            raise click.ClickException(f"{folder} is not a folder; give folders that hold DICOM series")
    from node import offline  # only now: it loads torch, which takes seconds

    try:
        status = offline.grade_folders(
            folders,
            json_file=json_file,
            out=out,
            device=device,
            threads=threads,
            withhold_levels_below=withhold_levels_below,
        )
        sys.exit(status)
    except offline.CannotGrade as error:
        raise click.ClickException(str(error)) from error


@main.command(epilog="Example:  spinenode send study 127.0.0.1 11112 SPINENODE")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.argument("host")
@click.argument("port", type=click.IntRange(1, 65535))
@click.argument("ae_title", metavar="AE", type=_AeTitle())
@click.option("--calling", type=_AeTitle(), default="SPINENODE", show_default=True, help="Our AE title.")
def send(folder: Path, host: str, port: int, ae_title: str, calling: str) -> None:
    """Send every DICOM file below DIR to HOST PORT AE, each in its own transfer syntax."""
    from node import sender, study_files

    paths = study_files.files_below(folder) if folder.is_dir() else (folder,)
    if not paths:
        raise click.ClickException(f"no file in {folder}")
    peer = sender.Peer(host=host, port=port, ae_title=ae_title, calling_ae_title=calling, connect_timeout_s=10)
    with tqdm(total=len(paths), unit="object", leave=False) as bar:
        outcomes = sender.send_folder(paths, peer, lambda done, total: _advance(bar, done))
    refused = [(item.path, item.answer) for item in outcomes if not isinstance(item.answer, sender.Stored)]
    for path, failure in refused:
        click.echo(f"not sent: {path}: {failure.what}", err=True)
    click.echo(f"{len(outcomes) - len(refused)} of {len(outcomes)} files stored by {peer.address}")
    if refused:
        raise click.ClickException(f"{len(refused)} files were not stored; the reasons are above")


@main.command(epilog="Example:  spinenode status --config deploy/node.toml   or   spinenode status 17 --json")
@click.argument("study", metavar="[STUDY]", required=False)
@CONFIG
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many studies, newest first."
)
@click.option("--json", "as_json", is_flag=True, help="For programs; the keys stand in docs/operations.md.")
def status(study: str | None, config: Path | None, limit: int, as_json: bool) -> None:
    """Show how the node stands: queue, archives, dead letters, disk, and the newest studies with their reasons.

    With STUDY (its number here, or its Study Instance UID): everything that happened to it, when, and how long it took.
    """
    from node import status_answer

    try:
        click.echo(status_answer.answer(_load(config), study, limit=limit, as_json=as_json))
    except status_answer.UnknownStudy as error:
        raise click.ClickException(str(error)) from error


@main.command(epilog="Example:  spinenode retry 1.2.826.0.1.3680043.8.498.1 --config deploy/node.toml")
@click.argument("study", metavar="STUDY")
@CONFIG
def retry(study: str, config: Path | None) -> None:
    """Try a study again: STUDY is its number in `spinenode status` or its Study Instance UID.

    A failed or declined study is graded again; deliveries that were refused or wait are sent at once.
    """
    from node import overview

    try:
        click.echo(overview.retry(_load(config), study))
    except overview.NothingToRetry as error:
        raise click.ClickException(str(error)) from error


@main.command("give-up", epilog="Example:  spinenode give-up 17 --config deploy/node.toml")
@click.argument("study", metavar="STUDY")
@CONFIG
def give_up(study: str, config: Path | None) -> None:
    """Stop trying to deliver the results of a study; `spinenode retry STUDY` takes it up again.

    Nothing is deleted: results and images stay in the spool.
    """
    from node import overview

    try:
        click.echo(overview.give_up(_load(config), study))
    except overview.NothingToRetry as error:
        raise click.ClickException(str(error)) from error


@main.command(epilog="Example:  spinenode echo pacs --config deploy/node.toml")
@click.argument("archive", required=False)
@click.option("--host", help="Instead of a configured archive: an address,")
@click.option("--port", type=click.IntRange(1, 65535), help="a port,")
@click.option("--ae-title", type=_AeTitle(), help="and an AE title.")
@CONFIG
def echo(archive: str | None, host: str | None, port: int | None, ae_title: str | None, config: Path | None) -> None:
    """Ask an archive, or all peers of the settings, whether they answer (C-ECHO) and what they accept.

    Of archives that is our results and the proof of them, of those who send the question how many images there are.
    """
    from node import echo as echoes
    from node import sender

    loaded = _load(config)
    asked = () if archive or host else tuple(one for one in loaded.senders if one.query_host)
    if archive is None and host is None and (loaded.archives or asked):
        targets = loaded.archives
    else:
        targets = (_archive(loaded, archive, host, port, ae_title),)
    silent = []
    for target in targets:
        try:
            click.echo("\n".join(echoes.about(target, loaded.delivery.connect_timeout_s)))
        except sender.SendError as error:
            silent.append(f"{target.name}: {error}")
    for one in asked:
        try:
            click.echo("\n".join(echoes.about_sender(one, loaded.receiver.ae_title)))
        except sender.SendError as error:
            silent.append(f"{one.ae_title}, which sends: {error}")
    if silent:
        raise click.ClickException("\n".join(silent))


main.add_command(dead_letters)
main.add_command(notices)
main.add_command(train)
main.add_command(evaluate)


@main.group()
def config() -> None:
    """Work with settings files."""


@config.command(epilog="Example:  spinenode config check --config deploy/node.toml")
@CONFIG
def check(config: Path | None) -> None:
    """Read the settings as `serve` would, and say what is wrong or what holds."""
    from node.archive_security import way_there, why_unusable

    loaded = _load(config)
    listens = f"{loaded.receiver.ae_title}@{loaded.receiver.host}:{loaded.receiver.port}"
    click.echo(f"settings are good: listens as {listens}, data in {loaded.node.data_dir.absolute()}")
    for archive in loaded.archives:
        click.echo(f"  archive {archive.name}: {way_there(archive)}")
    if not loaded.archives:
        click.echo("  no archive is set: results stay in the spool ([[archives]] in the settings file)")
    for line in ways_to_be_told(loaded.monitoring, loaded.notices):
        click.echo(f"  {line}")
    if bad := [why for archive in loaded.archives if (why := why_unusable(archive))]:
        raise click.ClickException("\n".join(bad))


def _advance(bar: tqdm[NoReturn], done: int) -> None:
    bar.update(done - bar.n)


def _load(config: Path | None) -> Settings:
    return node_settings.load(config)


def _archive(
    loaded: Settings, name: str | None, host: str | None, port: int | None, ae_title: str | None
) -> node_settings.ArchiveSettings:
    if name is None:
        if host is None or port is None or ae_title is None:
            raise click.UsageError("name an archive of the settings, or give --host, --port and --ae-title")
        return node_settings.ArchiveSettings(name="archive", host=host, port=port, ae_title=ae_title)
    for archive in loaded.archives:
        if archive.name == name:
            return archive
    known = ", ".join(archive.name for archive in loaded.archives) or "none is set"
    raise click.ClickException(f"no archive {name!r} in the settings (known: {known})")


if __name__ == "__main__":
    main(prog_name="spinenode")
