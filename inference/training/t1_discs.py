"""The T1-weighted image of each labelled disc, cut where its T2 image was: a second channel to learn from.

Only where both images have the same field of view: SPIDER's PNGs bear no position, and what they show then lies in the
same place, while images of another field of view do not fit when laid centre upon centre.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inference import discs
from inference.anatomy import Spine
from inference.training.disc_cutting import STAMP, Localise, stamp_of, stamped
from inference.training.graded_series import DataSetError, GradedData, GradedSeries
from inference.training.gradings import MARGIN_COLUMNS, MARGIN_ROWS, GradedDiscs
from inference.volume import SagittalVolume, Unsuitable, upright

FIELD_OF_VIEW_MM = 1.5
"""Within this two fields of view are the same: pixels are counted whole."""

Patches = NDArray[np.uint8]
"""(discs, 192, 320), 255 = 1.0."""


def with_t1(cut: GradedDiscs, data: GradedData, cache: Path, localise: Localise, localiser_digest: str) -> GradedDiscs:
    """The discs with their T1 images; from ``cache`` where it holds those of the same data set and localiser.

    Raises:
        DataSetError: the data set has no T1 image of the same field of view, or the discs were not cut from it.
    """
    stamp = json.dumps({"t1_of": stamp_of(data, localiser_digest), "discs": len(cut)})
    if stamped(cache) != stamp:
        t1 = cut_t1(cut, data, localise)
        temporary = cache.with_suffix(".part.npz")
        arrays: dict[str, Any] = {"t1": t1, STAMP: np.array(stamp)}
        np.savez(temporary, **arrays)
        temporary.replace(cache)
    with np.load(cache) as stored:
        return replace(cut, t1=stored["t1"])


def cut_t1(cut: GradedDiscs, data: GradedData, localise: Localise) -> Patches:
    """(all discs, 192, 320) of the T1 images; 0 where there is none, and for stacks."""
    t1 = np.zeros((len(cut), MARGIN_ROWS, MARGIN_COLUMNS), np.uint8)
    pairs = [(series, series.t1) for series in data.series if series.t1 is not None]
    for series, read_t1 in tqdm(pairs, desc="cut T1"):
        rows = cut.rows((cut.patient == series.patient) & ~cut.is_stack)
        if len(rows):
            _fill(t1, cut, rows, _both(series, read_t1, localise))
    if not t1.any():
        raise DataSetError("no T1 image of the same field of view as a T2 image was found: t1 has nothing to teach")
    return t1


def _both(
    series: GradedSeries, read_t1: Callable[[], SagittalVolume], localise: Localise
) -> tuple[Patches, Patches] | None:
    """(found discs, 192, 320) of T2, and of T1; None where T1 shows another field of view, or cannot be used."""
    try:
        volume, t1 = series.read(), read_t1()
        if not same_field(volume, t1):
            return None
        spine = localise(volume, series.patient)
    except Unsuitable:
        return None
    return _patches(volume, spine), _patches(t1, spine)


def same_field(volume: SagittalVolume, other: SagittalVolume) -> bool:
    """Whether two single slices show the same field of view, whatever their pixels."""
    corners = np.array([[0, r, c, 1] for r in (0, 1) for c in (0, 1)], float)

    def field_mm(each: SagittalVolume) -> NDArray[np.float64]:
        size = np.array([0, *each.voxels.shape[1:], 1], float)
        edges: NDArray[np.float64] = (corners * size) @ each.voxel_to_patient.T
        return edges

    return len(volume.voxels) == len(other.voxels) == 1 and bool(
        (np.abs(field_mm(volume) - field_mm(other)) <= FIELD_OF_VIEW_MM).all()
    )


def _patches(volume: SagittalVolume, spine: Spine) -> Patches:
    """As ``disc_cutting`` cuts them: the mid-slice with its margin, brightness by the image's own bodies."""
    standing = upright(volume)
    cut = [
        discs.resample(standing, each, MARGIN_ROWS, MARGIN_COLUMNS)[discs.MID] for each in discs.plan(standing, spine)
    ]
    patches: Patches = np.rint(np.array(cut).reshape(-1, MARGIN_ROWS, MARGIN_COLUMNS) * 255).astype(np.uint8)
    return patches


def _fill(t1: Patches, cut: GradedDiscs, rows: NDArray[np.int64], both: tuple[Patches, Patches] | None) -> None:
    """Put each T1 patch at the disc whose T2 patch is the very same."""
    if both is None:
        return
    on_t2, on_t1 = both
    firsts = np.searchsorted(cut.slice_disc, rows)
    for row, first in zip(rows, firsts, strict=True):
        same = np.flatnonzero((on_t2 == cut.slices[first]).all(axis=(1, 2)))
        if not len(same):
            raise DataSetError("the discs were cut by another version or localiser: cut them anew in another folder")
        t1[row] = on_t1[same[0]]
