"""The operator's words for training and measuring: `spinenode train ...`, `spinenode evaluate ...`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

_SPIDER = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="SPIDER folder, with stacks and masks.",
)
_GRADED = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder with images and gradings.",
)
_LAYOUT = click.option(
    "--layout",
    type=click.Choice(["shared", "spider-release", "rsna", "manifest"]),
    default="shared",
    show_default=True,
    help="How DATA lies: SPIDER as mid-sagittal images and stacks; the original SPIDER release (.mha); RSNA 2024 "
    "(DICOM); any studies listed in DATA/manifest.csv (docs/grading.md).",
)
_DOCS = click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("docs"), show_default=True)
_THREADS = click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads.")


@click.group()
def train() -> None:
    """Make weights from labelled images."""


@train.command("localisation", epilog="Example:  spinenode train localisation --data spider --out runs/localisation")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--layout",
    type=click.Choice(["shared", "spider-release", "nifti"]),
    default="shared",
    show_default=True,
    help="How DATA lies: stacks and mid-sagittal images; the original SPIDER release (.mha); pairs of NIfTI files.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Weights, curves, report.")
@click.option("--resume", is_flag=True, help="Go on with the training that was interrupted in OUT.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--hold-out",
    type=click.IntRange(min=0),
    default=7,
    show_default=True,
    help="Leave out one patient of so many, for the validation curve and the report; 0 = train on everybody.",
)
@click.option("--short", is_flag=True, help="A quarter of the steps.")
@_THREADS
def train_localisation(  # noqa: PLR0913, PLR0917 - one for each option
    data: Path, layout: str, out: Path, resume: bool, seed: int, hold_out: int, short: bool, threads: int
) -> None:
    """Train the network that marks discs, vertebrae, canal and sacrum; writes OUT/localiser.safetensors.

    Progress is shown and kept every 50 steps: an interrupted training goes on with --resume, and gives the weights that
    it would have given. OUT gets the curves (CSV) and a report with the worst held-out slices.
    """
    import torch

    from inference.training import localisation, localisation_report, localisation_scores, localisation_sources
    from inference.volume import Unsuitable

    weights, kind = out / "localiser.safetensors", localisation_sources.Layout(layout)
    if weights.exists():
        raise click.ClickException(f"{weights} is there already: give another --out")
    if weights.with_suffix("").exists() and not resume:
        raise click.ClickException(f"a training was begun in {out}: --resume goes on with it; or give another --out")
    torch.set_num_threads(threads)
    try:
        patients = localisation_sources.patients(data, kind)
        left_out = frozenset(patients[hold_out - 1 :: hold_out] if hold_out else ())
        if hold_out and kind is kind.SHARED:
            left_out = frozenset(map(str, localisation.held_out_patients(data, hold_out)))
        training = localisation.Training(
            data=data,
            out=weights,
            held_out=frozenset(int(each) for each in left_out) if kind is kind.SHARED else left_out,
            layout=kind,
            seed=seed,
            stages=localisation.SHORT_STAGES if short else localisation.STAGES,
        )
        localisation.train(training)
        unseen = localisation_sources.read(data, kind, left_out).unseen
    except Unsuitable as unsuitable:
        raise click.ClickException(str(unsuitable)) from unsuitable
    click.echo(localisation_report.write(training, unseen, localisation_scores.read_localiser(weights)))


@train.command("grading", epilog="Example:  spinenode train grading --data archive --layout manifest --out runs/ours")
@_GRADED
@_LAYOUT
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The run's folder.")
@click.option(
    "--config",
    "--recipe",
    "recipe_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML with variant, epochs, learning_rate, seed... (docs/grading.md), or a run's recipe.json; without it as "
    "the shipped weights were made.",
)
@click.option(
    "--localisers",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a cross-validated localiser: each patient's discs are found by the network that has not seen him. "
    "Without it, by the shipped one.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("auto",),
    show_default=True,
    help="auto, cpu, cuda or cuda:N; given several times, they share every batch.",
)
@_THREADS
def train_grading(  # noqa: PLR0913, PLR0917 - one for each option
    data: Path,
    layout: str,
    out: Path,
    recipe_file: Path | None,
    localisers: Path | None,
    devices: tuple[str, ...],
    threads: int,
) -> None:
    """Cut the discs, hold out each patient once, train on all, write OUT/grader.safetensors.

    A run that was stopped goes on where it was. OUT/left_out.csv names what is labelled and was not used, and why.
    `spinenode evaluate grading` tells how good the grader is.
    """
    import torch

    from inference.training import grading_run, grading_sources, recipe
    from inference.training.graded_series import DataSetError
    from inference.weights import DeviceError, WeightsError, device_of

    torch.set_num_threads(threads)
    try:
        graded = grading_sources.read(data, grading_sources.Layout(layout))
        chosen, places = recipe.read(recipe_file), [str(device_of(each)) for each in devices]
        weights = grading_run.run(graded, out, chosen, places, localisers)
    except (DataSetError, DeviceError, WeightsError, recipe.RecipeError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"weights: {weights}")


@click.group()
def evaluate() -> None:
    """Measure what the node says against data whose answers are known."""


@evaluate.command(epilog="Example:  spinenode evaluate evidence --data spider --out docs")
@_SPIDER
@_DOCS
@click.option("--stacks", type=click.IntRange(min=1), help="Only the first so many stacks.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for what is measured of each stack: a run that was stopped goes on from there.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@_THREADS
def evidence(  # noqa: PLR0913, PLR0917 - one for each option
    data: Path, out: Path, stacks: int | None, keep: Path | None, device: str, threads: int
) -> None:
    """Compare the methods that show where a grade comes from; writes evidence.md and evidence.png."""
    import torch

    from inference.training import evidence_page, evidence_run, spider
    from inference.weights import DeviceError, WeightsError, load_models

    patients = spider.stack_patients(data)[:stacks]
    if not patients:
        raise click.ClickException(f"no stacks with masks in {data / 'stacks'}: --data is the SPIDER folder")
    torch.set_num_threads(threads)
    try:
        models = load_models(device)
    except (DeviceError, WeightsError) as error:
        raise click.ClickException(str(error)) from error
    limit = f" --stacks {stacks}" if stacks else ""
    heading = (
        f"{datetime.now(UTC):%Y-%m-%d}, `spinenode evaluate evidence --data {data} --out {out}{limit}`, "
        f"weights {models.identity.version} (sha256 {models.identity.sha256[:12]}), {models.device}."
    )
    click.echo(evidence_page.write(evidence_run.evaluate(data, models, patients, keep), out, heading))


@evaluate.command("localisation", epilog="Example:  spinenode evaluate localisation --data spider --out docs")
@_SPIDER
@_DOCS
@click.option(
    "--folds",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a cross-validation: each patient by the network that has not seen him. Without it, the shipped "
    "network on the patients held out from it.",
)
@click.option("--quick", is_flag=True, help="Without the images cut off and under wrong headers: half the time.")
@_THREADS
def evaluate_localisation(data: Path, out: Path, folds: Path | None, quick: bool, threads: int) -> None:
    """Measure finding and naming of discs; writes localisation.md and a picture of every failure."""
    import torch

    from inference.training import localisation_figures, localisation_page, localisation_scores, spider
    from inference.weights import WeightsError

    if not spider.stack_patients(data):
        raise click.ClickException(f"no stacks with masks in {data / 'stacks'}: --data is the SPIDER folder")
    if folds is not None and not (folds / "folds.json").exists():
        raise click.ClickException(f"{folds} holds no folds.json: it is not the folder of a cross-validation")
    torch.set_num_threads(threads)
    try:
        unseen = localisation_scores.shipped(data) if folds is None else localisation_scores.unseen(folds)
        seen = localisation_scores.shipped_to_its_own(data) if folds is None else None
    except WeightsError as error:
        raise click.ClickException(str(error)) from error
    found = localisation_figures.evaluate(data, unseen, seen=seen, experiments=not quick)
    options = (f" --folds {folds}" if folds is not None else "") + (" --quick" if quick else "")
    who = "the shipped network on patients held out from it" if folds is None else "patient-wise cross-validation"
    heading = (
        f"{datetime.now(UTC):%Y-%m-%d}, `spinenode evaluate localisation --data {data} --out {out}{options}`: {who}, "
        f"{len(unseen)} patients."
    )
    place = localisation_page.SHIPPED if folds is None else localisation_page.FOLDS
    click.echo(localisation_page.write(found, data, unseen, (out, place), heading))


@evaluate.command("grading", epilog="Example:  spinenode evaluate grading --data spider --run runs/grading --out docs")
@_GRADED
@_LAYOUT
@click.option(
    "--run",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of a finished `spinenode train grading`; with --weights, where the cut discs are kept.",
)
@click.option(
    "--weights",
    metavar="FILE",
    help='Evaluate this grader.safetensors, or "shipped", on all of DATA; writes RUN/evaluation.md. It must not have '
    "been trained on these patients.",
)
@click.option(
    "--views",
    type=click.Choice(["plain", "shifted", "paper"]),
    default="plain",
    show_default=True,
    help="Test-time augmentation: each disc as it is cut; shifted, 9 views; or SpineNet's 54. Networks only.",
)
@_DOCS
@_THREADS
def evaluate_grading(  # noqa: PLR0913, PLR0917 - one for each option
    data: Path, layout: str, run: Path, weights: str | None, views: str, out: Path, threads: int
) -> None:
    """Tell how graders judge patients they have not seen; writes grading.md, grading.png and RUN/worst."""
    import torch

    from inference.training import grading_evaluation, grading_page, grading_run, grading_sources
    from inference.training.graded_series import DataSetError
    from inference.weights import WeightsError

    torch.set_num_threads(threads)
    kind = "" if layout == "shared" else f" --layout {layout}"
    if weights is not None:
        heading = (
            f"{datetime.now(UTC):%Y-%m-%d}, `spinenode evaluate grading --data {data}{kind} --run {run} --weights "
            f"{weights}`."
        )
        try:
            graded = grading_sources.read(data, grading_sources.Layout(layout))
            click.echo(grading_evaluation.write(graded, run, None if weights == "shipped" else Path(weights), heading))
        except (DataSetError, WeightsError) as error:
            raise click.ClickException(str(error)) from error
        return
    if not (run / grading_run.SAID).exists():
        raise click.ClickException(f"{run} holds no finished training: spinenode train grading --out {run}")
    heading = (
        f"{datetime.now(UTC):%Y-%m-%d}, `spinenode evaluate grading --data {data}{kind} --run {run} --out {out}"
        f"{'' if views == 'plain' else f' --views {views}'}`, of a run by `spinenode train grading --data {data}{kind} "
        f"--out {run}`."
    )
    try:
        said = grading_run.SAID if views == "plain" else grading_run.seen_again(run, views)
        click.echo(grading_page.write(data, run, out, heading, said))
    except DataSetError as error:
        raise click.ClickException(str(error)) from error


@evaluate.command("measured", epilog="Example:  spinenode evaluate measured --data spider --out docs")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="SPIDER.")
@_DOCS
@_THREADS
def evaluate_measured(data: Path, out: Path, threads: int) -> None:
    """Tell how the measured grades stand to SPIDER's labels; writes into grading.md."""
    import torch

    from inference.training import measured_page

    torch.set_num_threads(threads)
    heading = f"{datetime.now(UTC):%Y-%m-%d}, `spinenode evaluate measured --data {data} --out {out}`."
    click.echo(measured_page.write(data, out, heading))
