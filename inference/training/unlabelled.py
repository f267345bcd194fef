"""Every disc that can be cut, whether it has a label or not: what a trunk is taught on before it learns to grade."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inference import discs
from inference.training.disc_cutting import STAMP, Localise, stamp_of, stamped
from inference.training.graded_series import DataSetError, GradedData, GradedSeries
from inference.training.gradings import LEFT, MARGIN_COLUMNS, MARGIN_ROWS, TOP
from inference.volume import Unsuitable, upright


@dataclass(frozen=True, kw_only=True, slots=True)
class UnlabelledDiscs:
    """Slices of discs as arrays; ``disc`` and ``zones`` are counted by disc, the rest by slice."""

    slices: NDArray[np.uint8]
    """(slices, 192, 320), 255 = 1.0: each slice of a stack, the only one of an image."""
    disc: NDArray[np.int64]
    """(slices,) which disc of which series a slice shows."""
    zones: NDArray[np.uint8]
    """(discs, 192, 320) of ``Zone``, 0 in the margin."""
    patient: NDArray[np.int64]
    """(slices,)"""

    def rows_of(self, patients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices of the slices of these patients."""
        return np.flatnonzero(np.isin(self.patient, patients))


def load_or_cut(data: GradedData, cache: Path, localise: Localise, localiser_digest: str) -> UnlabelledDiscs:
    """The discs of every series; from ``cache`` where it holds those of the same data set and localiser.

    Raises:
        DataSetError: not one disc was found.
    """
    extra = sorted(series.name for series in data.unlabelled)
    stamp = json.dumps({"all_discs_of": stamp_of(data, localiser_digest), "and_of": extra})
    if stamped(cache) != stamp:
        cut = cut_all(data, localise)
        temporary = cache.with_suffix(".part.npz")
        arrays: dict[str, Any] = {name: getattr(cut, name) for name in UnlabelledDiscs.__dataclass_fields__}
        arrays[STAMP] = np.array(stamp)
        np.savez(temporary, **arrays)
        temporary.replace(cache)
    with np.load(cache) as stored:
        return UnlabelledDiscs(**{name: stored[name] for name in UnlabelledDiscs.__dataclass_fields__})


def cut_all(data: GradedData, localise: Localise) -> UnlabelledDiscs:
    """Every disc that is found on a series, on each of its slices that grading would cut."""
    slices: list[NDArray[np.uint8]] = []
    zones: list[NDArray[np.uint8]] = []
    owner: list[int] = []
    patient: list[int] = []
    for series in tqdm((*data.series, *data.unlabelled), desc="cut all discs"):
        for images, drawn in _cut(series, localise):
            slices.extend(images)
            owner.extend([len(zones)] * len(images))
            patient.extend([series.patient] * len(images))
            zones.append(drawn)
    if not slices:
        raise DataSetError("no disc was found to pre-train on")
    return UnlabelledDiscs(
        slices=np.stack(slices), disc=np.array(owner), zones=np.stack(zones), patient=np.array(patient)
    )


def _cut(series: GradedSeries, localise: Localise) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Per disc its slices that are there, and its zones; none where the series cannot be used."""
    try:
        volume = series.read()
        spine = localise(volume, series.patient)
    except Unsuitable:
        return []
    standing, cut = upright(volume), []
    for where, disc in zip(discs.plan(standing, spine), discs.cut(volume, spine), strict=True):
        patch = discs.resample(standing, where, MARGIN_ROWS, MARGIN_COLUMNS)[disc.slice_present]
        zones = np.pad(disc.zones, ((TOP, TOP), (LEFT, LEFT)))
        cut.append((np.rint(patch * 255).astype(np.uint8), zones))
    return cut
