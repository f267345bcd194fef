"""Grade folders without a node: `spinenode grade`. One process loads the models once."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import pydicom
import torch
from tqdm import tqdm

from inference import pipeline
from inference.report import Declined, Report
from inference.weights import DeviceError, WeightsError, load_models
from node import logs, report_json, study_files
from sr_templates import render

FAILED = 1


class CannotGrade(Exception):
    """Nothing was graded; the message names what to mend."""


def grade_folders(  # noqa: PLR0913 - one for each option
    folders: Sequence[Path],
    *,
    json_file: str | None,
    out: Path | None,
    device: str,
    threads: int,
    withhold_levels_below: float = 0.0,
) -> int:
    """Grade each folder, in order; returns the exit status (0 when every one was graded or declined).

    Raises:
        CannotGrade: the output cannot be written, or the device or weights are unusable.
    """
    logs.configure("grade", "WARNING", "plain")  # pydicom's own warnings quote the values that they warn about
    if threads:
        torch.set_num_threads(threads)
    try:
        models = load_models(device)
    except (WeightsError, DeviceError) as error:
        raise CannotGrade(str(error)) from error
    if out is not None:
        _prepare(out, folders)
    how: dict[str, Any] = {"models": models, "clock": time.perf_counter, "withhold_levels_below": withhold_levels_below}
    failures = 0
    with _json_lines(json_file) as lines:
        for number, folder in enumerate(tqdm(folders, unit="study", disable=len(folders) == 1), start=1):
            target = out if out is None or len(folders) == 1 else out / f"{number:03d}"
            answer = _grade_folder(folder, partial(pipeline.grade, **how), target)
            failures += answer["status"] == "failed"
            if lines is not None:
                lines.write(json.dumps(answer) + "\n")
                lines.flush()
            if json_file != "-":
                _say(answer, target)
    return FAILED if failures else 0


def _prepare(out: Path, folders: Sequence[Path]) -> None:
    """The folder for the results; with several inputs a table that says which of its folders is whose."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if len(folders) > 1:
            lines = [f"{number:03d}\t{folder}\n" for number, folder in enumerate(folders, start=1)]
            (out / "inputs.tsv").write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise CannotGrade(f"cannot write to {out}: {error.strerror}") from error


def _grade_folder(folder: Path, grade: Callable[..., Report | Declined], out: Path | None) -> dict[str, Any]:
    try:
        files = study_files.read(study_files.files_below(folder))
        outcome = _with_remarks(grade(files.instances), files, folder)
        if out is not None:
            _write_results(outcome, files.instances, out)
    except Exception as error:  # noqa: BLE001 - the other folders must still be graded; the exit status tells
        return report_json.of_failure(f"{type(error).__name__}: {error}", str(folder))
    if isinstance(outcome, Report):
        return report_json.of_report(outcome, str(folder))
    return report_json.of_declined(outcome, str(folder))


def _with_remarks(outcome: Report | Declined, files: study_files.StudyFiles, folder: Path) -> Report | Declined:
    """The outcome, with what the folder itself gives reason to say: unreadable files, more than one study."""
    remarks = []
    if files.unreadable:  # they may be the slices that are missing
        first = files.unreadable[0]
        remarks.append(
            f"{len(files.unreadable)} of {len(files.unreadable) + len(files.instances)} files could not be read "
            f"({first.path.relative_to(folder)}: {first.reason})."
        )
    studies = {str(item.get("StudyInstanceUID", "")) for item in files.instances}
    if len(studies) > 1:
        remarks.append(
            f"The folder holds {len(studies)} studies, of which one is graded: give each a folder of its own."
        )
    if isinstance(outcome, Declined):
        return replace(outcome, reason=" ".join([outcome.reason, *remarks]))
    return replace(outcome, quality=(*outcome.quality, *remarks))


def _write_results(outcome: Report | Declined, instances: Sequence[pydicom.Dataset], out: Path) -> None:
    """The DICOM objects in ``dicom/``, a PNG of each capture in ``captures/``, and the text report."""
    (out / "dicom").mkdir(parents=True, exist_ok=True)
    source = [item for item in instances if item.get("StudyInstanceUID") == outcome.study_instance_uid]
    run = _run_now(source)
    if isinstance(outcome, Declined):
        rendered = render.render_declined(outcome, source, run) if source else ()
    else:
        rendered = render.render(outcome, source, run)
        (out / "captures").mkdir(exist_ok=True)
        for name, png in render.captures_png(outcome):
            (out / "captures" / f"{name}.png").write_bytes(png)
        (out / "report.txt").write_text(render.text(outcome), encoding="utf-8")
    for number, (item, content) in enumerate(zip(rendered, render.files(rendered), strict=True), start=1):
        (out / "dicom" / f"{number:03d}-{item.kind.value}.dcm").write_bytes(content)


def _run_now(source: Sequence[pydicom.Dataset]) -> render.Run:
    """An off-line run is a run of its own: its time is part of the digest, so its objects never share a UID."""
    now = datetime.now(UTC)
    uids = "".join(sorted(str(item.get("SOPInstanceUID", "")) for item in source))
    digest = hashlib.sha256(f"{uids}|{now.isoformat()}".encode()).hexdigest()
    return render.Run(study_digest=digest, created_at=now)


@contextmanager
def _json_lines(json_file: str | None) -> Iterator[TextIO | None]:
    if json_file is None:
        yield None
    elif json_file == "-":
        yield sys.stdout
    else:
        try:
            with Path(json_file).open("w", encoding="utf-8") as lines:
                yield lines
        except OSError as error:
            raise CannotGrade(f"cannot write {json_file}: {error.strerror}") from error


def _say(answer: dict[str, Any], out: Path | None) -> None:
    """A few lines for a person at a terminal."""
    print(f"{answer['input']}: {answer['status']}" + (f": {answer['reason']}" if answer["reason"] else ""))
    for disc in answer["discs"]:
        grades = ", ".join(f"{f} {g['value']}{'?' if g['uncertain'] else ''}" for f, g in disc["grades"].items())
        name = disc["level"] or f"disc {disc['place_from_below']}"
        print(f"  {name:<8} (level {disc['level_confidence']:.0%} sure)  {grades}")
    for sentence in answer["quality"]:
        print(f"  ! {sentence}")
    for series in answer["rejected_series"]:
        print(f"  not graded: {series['series_instance_uid']}: {series['reason']}")
    if out is not None and answer["status"] != "failed":
        print(f"  results in {out}")
    if answer["status"] == "graded":
        print("  ? = uncertain. Research use only, not for diagnosis.")
