"""Segments: each mark belongs to the disc or body it lies at, on every slice, in the volume's own frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from inference.anatomy import Canal, Disc, DiscLevel, Spine, Vertebra, VertebralBody
from inference.marks import Marks
from inference.report import Segments
from inference.segments import segment
from inference.volume import SagittalVolume, SliceSource, upright, without_margins
from tests.unit.inference.drawn_spine import DISC_HEIGHT_MM, DISC_WIDTH_MM, column_of_discs, drawn

SLICES, SIZE_MM = 5, (240, 200)
DISCS = column_of_discs(6)
LEVELS = tuple(DiscLevel)[3:]
PIXEL_MM = 0.5
"""Of the volume; its marks have 1 mm."""


def volume() -> SagittalVolume:
    """240 x 200 mm, upright, no two edges alike so that no margin is taken for filled in."""
    rows, columns = (round(size / PIXEL_MM) for size in SIZE_MM)
    affine = np.array([[4.0, 0, 0, 0], [0, 0, PIXEL_MM, 0], [0, -PIXEL_MM, 0, 0], [0, 0, 0, 1]])
    noise = np.random.default_rng(0).uniform(1, 2, (SLICES, rows, columns)).astype(np.float32)
    sources = tuple(SliceSource(sop_instance_uid=f"1.{index}", frame=1) for index in range(SLICES))
    return SagittalVolume(
        voxels=noise, voxel_to_patient=affine, sources=sources, series_instance_uid="1", series_description=""
    )


def marks(slice_indices: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Marks:
    plane = drawn(DISCS, SIZE_MM)
    return Marks(
        probabilities=np.stack([plane.probabilities] * len(slice_indices)),
        slice_indices=slice_indices,
        pixel_mm=np.array([1.0, 1.0]),
        voxels_per_pixel=np.array([1 / PIXEL_MM, 1 / PIXEL_MM]),
    )


def lps(row_mm: float, column_mm: float) -> np.ndarray:
    """Of a point on slice 2, in mm from the centre of the marks' first pixel, a quarter of a mm behind a voxel's."""
    return np.array([8.0, column_mm + 0.25, -row_mm - 0.25])


def spine() -> Spine:
    half = DISC_WIDTH_MM / 2
    discs = tuple(
        Disc(
            level=level,
            level_confidence=0.9,
            slice_index=2,
            outline_lps_mm=lps(drawn_disc.row_mm, drawn_disc.column_mm)[None],
            center_lps_mm=lps(drawn_disc.row_mm, drawn_disc.column_mm),
            anterior_lps_mm=lps(drawn_disc.row_mm, drawn_disc.column_mm - half),
            posterior_lps_mm=lps(drawn_disc.row_mm, drawn_disc.column_mm + half),
            canal_lps_mm=None,
        )
        for level, drawn_disc in zip(LEVELS, DISCS, strict=True)
    )
    bodies = tuple(
        VertebralBody(
            level=level,
            corners_lps_mm=np.stack(
                [
                    lps(upper.row_mm + 5, upper.column_mm - half),
                    lps(upper.row_mm + 5, upper.column_mm + half),
                    lps(upper.row_mm + 29, upper.column_mm + half),
                    lps(upper.row_mm + 29, upper.column_mm - half),
                ]
            ),
        )
        for level, upper in zip(tuple(Vertebra)[4:9], DISCS[:-1], strict=True)
    )
    return Spine(bodies=bodies, discs=discs, doubts=())


@pytest.fixture(scope="module")
def segments() -> Segments:
    whole = volume()
    return segment(whole, whole, marks(), spine())


def size_mm2(found: Segments, structure: DiscLevel | Vertebra | Canal, slice_index: int = 2) -> float:
    return float((found.labels[slice_index] == 1 + found.structures.index(structure)).sum()) * PIXEL_MM**2


def test_every_structure_is_there_in_order(segments: Segments) -> None:
    assert segments.structures == (*LEVELS, *tuple(Vertebra)[4:9], Canal.SPINAL_CANAL)


def test_sizes_are_those_drawn(segments: Segments) -> None:
    """A disc of 36 x 10 mm, a body of 36 x 24 mm: on every slice."""
    for index in range(SLICES):
        assert size_mm2(segments, DiscLevel.L3_L4, index) == pytest.approx(DISC_WIDTH_MM * DISC_HEIGHT_MM, rel=0.06)
        assert size_mm2(segments, Vertebra.L3, index) == pytest.approx(36 * 24, rel=0.06)


def test_a_disc_lies_where_it_was_found(segments: Segments) -> None:
    at = np.argwhere(segments.labels[2] == 1 + LEVELS.index(DiscLevel.L4_L5)).mean(axis=0)
    expected = volume().to_voxel(spine().discs[4].center_lps_mm)[1:]
    assert at == pytest.approx(expected, abs=0.5)


def test_slices_that_were_not_looked_at_are_between_their_neighbours(segments: Segments) -> None:
    whole = volume()
    np.testing.assert_array_equal(segment(whole, whole, marks((0, 2, 4)), spine()).labels, segments.labels)


def _flipped(whole: SagittalVolume) -> SagittalVolume:
    affine = whole.voxel_to_patient.copy()
    affine[:3, 3] += affine[:3, 1] * (whole.voxels.shape[1] - 1)
    affine[:3, 1] *= -1
    return replace(whole, voxels=np.ascontiguousarray(whole.voxels[:, ::-1]), voxel_to_patient=affine)


def _transposed(whole: SagittalVolume) -> SagittalVolume:
    voxels = np.ascontiguousarray(whole.voxels.transpose(0, 2, 1))
    return replace(whole, voxels=voxels, voxel_to_patient=whole.voxel_to_patient[:, [0, 2, 1, 3]])


def _padded(whole: SagittalVolume) -> SagittalVolume:
    affine = whole.voxel_to_patient.copy()
    affine[:3, 3] -= affine[:3, 1] * 7 + affine[:3, 2] * 3
    return replace(whole, voxels=np.pad(whole.voxels, ((0, 0), (7, 9), (3, 0))), voxel_to_patient=affine)


@pytest.mark.parametrize(
    "change", [_flipped, _transposed, _padded, lambda whole: _padded(_transposed(_flipped(whole)))]
)
def test_labels_stay_with_their_tissue_however_the_images_are_stored(
    segments: Segments, change: Callable[[SagittalVolume], SagittalVolume]
) -> None:
    """A voxel and its place in the patient go together: the same place has the same label in both volumes."""
    stored = change(volume())
    found = segment(stored, upright(without_margins(stored)), marks(), spine())
    for number in (1, 6, 9, 12):
        here = stored.to_patient(np.argwhere(found.labels == number).astype(np.float64)).mean(axis=0)
        there = volume().to_patient(np.argwhere(segments.labels == number).astype(np.float64)).mean(axis=0)
        assert here == pytest.approx(there, abs=1e-6)
        assert (found.labels == number).sum() == (segments.labels == number).sum()


def test_marks_behind_a_body_are_no_part_of_it() -> None:
    """Posterior elements are marked as vertebra too."""
    whole, seen = volume(), marks()
    seen.probabilities[:, 1, 100:120, 150:170] = 1.0
    found = segment(whole, whole, seen, spine())
    assert not found.labels[:, 210:230, 310:330].any()


def test_stray_marks_are_left_out(segments: Segments) -> None:
    whole, seen = volume(), marks()
    seen.probabilities[0, 2, 5:8, 5:8] = 1.0
    np.testing.assert_array_equal(segment(whole, whole, seen, spine()).labels, segments.labels)


def test_what_is_not_marked_is_no_structure() -> None:
    whole, seen = volume(), marks()
    seen.probabilities[:, 2] = 0.0
    assert Canal.SPINAL_CANAL not in segment(whole, whole, seen, spine()).structures
