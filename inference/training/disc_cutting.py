"""Cuts the labelled discs out of a data set, by the localiser that inference uses, and keeps them.

A disc gets the labels of its level only where something vouches for the level: the point that the data set marks beside
the disc; or as many discs as the data set counts, give or take one; or, without either, the localiser's own confidence.
Everything labelled that is not cut is told, with the reason.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inference import discs
from inference.anatomy import Disc, DiscLevel, Spine
from inference.descriptors import FEATURES
from inference.discs import LEAST_LEVEL_CONFIDENCE
from inference.training.graded_series import DataSetError, GradedData, GradedSeries, Labels, LeftOut, Places
from inference.training.gradings import (
    LEFT,
    MARGIN_COLUMNS,
    MARGIN_ROWS,
    NUMBER_OF_LEVEL,
    TARGETS,
    TOP,
    UNKNOWN,
    GradedDiscs,
    load,
)
from inference.volume import SagittalVolume, Unsuitable, VoxelArray, upright

FURTHEST_FROM_PLACE_MM = 20.0
"""Between a disc's back end and the point in the canal that its label marks. Discs are 30 mm and more apart."""
STAMP = "stamp"
"""Name in the file of cut discs: what they were cut from, with what."""

CUT = tuple(name for name in GradedDiscs.__dataclass_fields__ if name != "t1")
"""What is kept of the discs here; their T1 images are kept apart (``t1_discs``)."""

Localise = Callable[[SagittalVolume, int], Spine]
"""An image and whose it is (number in the data set) -> the spine in it."""


def load_or_cut(data: GradedData, cache: Path, localise: Localise, localiser_digest: str) -> GradedDiscs:
    """The discs of the data set: from ``cache`` where it was cut from the same files with the same localiser, else cut
    anew. ``left_out.csv`` and, where patients have names of their own, ``patients.csv`` lie beside it.

    Raises:
        DataSetError: not one labelled disc could be cut.
    """
    stamp = stamp_of(data, localiser_digest)
    if stamped(cache) != stamp:
        cut, left_out = cut_all(data, localise)
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_left_out(left_out, cache.parent / "left_out.csv")
        _write_patients(data, cache.parent / "patients.csv")
        if cut is None:
            raise DataSetError(f"no labelled disc could be cut: {cache.parent / 'left_out.csv'} tells why")
        temporary = cache.with_suffix(".part.npz")
        arrays: dict[str, Any] = {name: getattr(cut, name) for name in CUT}
        arrays[STAMP] = np.array(stamp)
        np.savez(temporary, **arrays)
        temporary.replace(cache)
    return load(cache)


def stamp_of(data: GradedData, localiser_digest: str) -> str:
    """What cut discs depend on, as one line of JSON."""
    numbers = hashlib.sha256("\n".join(FEATURES).encode()).hexdigest()
    made = {
        "data": data.digest(),
        "localiser": localiser_digest,
        "spinenode": version("spinenode"),
        "targets": TARGETS,
        "numbers": numbers,
    }
    return json.dumps(made, sort_keys=True)


def stamped(cache: Path) -> str | None:
    """The stamp of cut discs; None where there are none, or they bear none."""
    if not cache.exists():
        return None
    with np.load(cache) as stored:
        return str(stored[STAMP]) if STAMP in stored else None


def cut_all(data: GradedData, localise: Localise) -> tuple[GradedDiscs | None, tuple[LeftOut, ...]]:
    """Every labelled disc that can be cut, None where there is none; and what was left out."""
    rows: list[_Row] = []
    left_out = list(data.left_out)
    for series in tqdm(data.series, desc="cut discs"):
        if not series.labels:
            left_out.append(LeftOut(series=series.name, level="", reason="no label"))
            continue
        try:
            volume = series.read()
            spine = localise(volume, series.patient)
            _require_count(spine, series)
        except Unsuitable as unsuitable:
            left_out.append(LeftOut(series=series.name, level="", reason=str(unsuitable)))
            continue
        chosen, without = matched(spine.discs, series)
        left_out.extend(without)
        rows.extend(_rows_of(volume, spine, chosen, series))
    return (_stacked(rows) if rows else None), tuple(left_out)


def matched(found: Sequence[Disc], series: GradedSeries) -> tuple[Mapping[int, DiscLevel], tuple[LeftOut, ...]]:
    """Index of each disc that gets labels -> the level whose labels it gets; and the levels that no disc gets."""
    places = series.places()
    chosen: dict[int, DiscLevel] = {}
    reasons: dict[DiscLevel, str] = {}
    for level in series.labels:
        index, reason = _disc_of(level, found, series, places)
        if index in chosen:
            reasons[level] = f"the same disc was found for it as for {chosen[index]}"
        elif index is None:
            reasons[level] = reason
        else:
            chosen[index] = level
    return chosen, tuple(LeftOut(series=series.name, level=level, reason=reason) for level, reason in reasons.items())


def write_left_out(left_out: Sequence[LeftOut], path: Path) -> None:
    """A table of what is labelled and teaches nothing."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["series", "level", "reason"])
        table.writerows([each.series, each.level, each.reason] for each in left_out)


def _write_patients(data: GradedData, path: Path) -> None:
    """Whom the numbers in tables and pictures mean."""
    if all(str(number) == name for number, name in data.patients.items()):
        return
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["number", "patient"])
        table.writerows(data.patients.items())


def _require_count(spine: Spine, series: GradedSeries) -> None:
    if series.disc_count is not None and abs(len(spine.discs) - series.disc_count) > 1:
        raise Unsuitable(
            f"{len(spine.discs)} discs were found and the data set counts {series.disc_count}: a neighbour's labels "
            "would be taught"
        )


def _disc_of(level: DiscLevel, found: Sequence[Disc], series: GradedSeries, places: Places) -> tuple[int | None, str]:
    """Index of the disc that a level's labels mean; or None and the reason."""
    if level in places and found:
        away_mm = [float(np.linalg.norm(disc.posterior_lps_mm - places[level])) for disc in found]
        nearest = int(np.argmin(away_mm))
        if away_mm[nearest] <= FURTHEST_FROM_PLACE_MM:
            return nearest, ""
        return None, f"the nearest disc found lies {away_mm[nearest]:.0f} mm from the point that marks it"
    index = next((k for k, disc in enumerate(found) if disc.level is level), None)
    if index is None:
        return None, "no disc of this name was found"
    sure = found[index].level_confidence
    if series.disc_count is None and sure < LEAST_LEVEL_CONFIDENCE:
        return None, f"the level of the disc found is not sure ({sure:.2f})"
    return index, ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    slices: NDArray[np.uint8]
    positions: NDArray[np.int64]
    zones: NDArray[np.uint8]
    features: VoxelArray
    labels: list[int]
    patient: int
    label_number: int


def _rows_of(
    volume: SagittalVolume, spine: Spine, chosen: Mapping[int, DiscLevel], series: GradedSeries
) -> Iterator[_Row]:
    standing = upright(volume)
    plans, volumes = discs.plan(standing, spine), discs.cut(volume, spine)
    for index, level in sorted(chosen.items()):
        disc_volume = volumes[index]
        patch = discs.resample(standing, plans[index], MARGIN_ROWS, MARGIN_COLUMNS)
        yield _Row(
            slices=np.rint(patch[disc_volume.slice_present] * 255).astype(np.uint8),
            positions=np.flatnonzero(disc_volume.slice_present),
            zones=np.pad(disc_volume.zones, ((TOP, TOP), (LEFT, LEFT))),
            features=disc_volume.features,
            labels=in_order(series.labels[level]),
            patient=series.patient,
            label_number=NUMBER_OF_LEVEL[level],
        )


def in_order(labels: Labels) -> list[int]:
    """In the order of ``TARGETS``."""
    return [labels.get(target, UNKNOWN) for target in TARGETS]


def _stacked(rows: list[_Row]) -> GradedDiscs:
    counts = [len(row.positions) for row in rows]
    return GradedDiscs(
        slices=np.concatenate([row.slices for row in rows]),
        slice_disc=np.repeat(np.arange(len(rows)), counts),
        slice_position=np.concatenate([row.positions for row in rows]),
        zones=np.stack([row.zones for row in rows]),
        features=np.stack([row.features for row in rows]),
        labels=np.array([row.labels for row in rows], np.int64),
        patient=np.array([row.patient for row in rows], np.int64),
        label_number=np.array([row.label_number for row in rows], np.int64),
        is_stack=np.array(counts) > 1,
    )
