"""Modic types 1, 2 and 3 of a marrow change, measured on T1 and T2 beside the end plate.

Modic 1988 (Radiology 166:193): type 1 is dark on T1 and bright on T2 (oedema), type 2 is bright on T1 and as bright as
marrow or brighter on T2 (fat), type 3 is dark on both (sclerosis). Dark and bright are told beside the marrow in the
middle of the bodies of the same image. Only where the grader sees a marrow change: this says of which type it is, not
whether there is one. The T1 images lie in the same frame of reference, so each place is read at its position in the
patient; nothing is registered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.anatomy import Disc, Spine, VertebralBody
from inference.geometry import DiscFrame, chords_mm, frame_of, in_frame_mm
from inference.grades import Basis, Doubt, Finding, Grade, Grades, is_abnormal
from inference.volume import FloatArray, SagittalVolume

SIDES: Mapping[Finding, int] = {Finding.UPPER_MARROW_CHANGE: -1, Finding.LOWER_MARROW_CHANGE: 1}
"""Finding -> direction from the disc, footwards positive."""
AWAY_MM = (2.0, 6.0)
"""Distance from the disc's edge: beyond the end plate itself, within what a Modic change reaches."""
HALF_DEPTH = 0.42
"""The corners, where osteophytes and the cortex lie, are left out."""
PARTS = 5
"""The end plate is read in so many parts from front to back."""
NEIGHBOURS: Mapping[int, int] = {1: 2, 2: 2, 3: 3}
"""So many neighbouring parts must show a type."""
BRIGHTER, DARKER, DARK_ON_BOTH = 1.1, 0.9, 0.6
"""Of the marrow in the middle of the bodies. On both images a band beside a normal end plate is darker than that (its
median is 0.93, one in twenty below 0.62): type 3 asks for more than that, or it would be told ten times too often."""
NOT_DARKER = 0.9
UNPROVEN = frozenset({1, 3})
"""Types that are always told as uncertain: SPIDER has two and four such discs with T1, and none was told rightly."""
CRITERION = "signal beside the end plate on T1 and T2, against the marrow of the bodies (Modic 1988, Radiology 166:193)"


def types(
    volume: SagittalVolume, t1: SagittalVolume, spine: Spine, grades: Sequence[Grades]
) -> tuple[Mapping[Finding, Grade], ...]:
    """Per disc the Modic type of each side with a marrow change; absent where T1 and T2 show no type clearly.

    ``t1`` is the T1-weighted series in the same frame of reference. A disc that it does not reach has none.
    """
    marrow = _marrow(volume, spine), _marrow(t1, spine)
    if min(marrow) <= 0:
        return ({},) * len(spine.discs)
    found: list[Mapping[Finding, Grade]] = []
    for disc, said in zip(spine.discs, grades, strict=True):
        of_disc = {}
        for finding in SIDES:
            if finding in said and is_abnormal(finding, said[finding]):
                kind = _type(volume, t1, disc, SIDES[finding], marrow)
                if kind:
                    of_disc[finding] = Grade(
                        value=kind,
                        probabilities={},
                        basis=Basis.MEASURED,
                        criterion=CRITERION,
                        doubt=Doubt.UNSURE if kind in UNPROVEN else None,
                    )
        found.append(of_disc)
    return tuple(found)


def kind_of(t2: FloatArray, t1: FloatArray) -> int:
    """1, 2, 3, or 0 for none: of (parts,) signals relative to marrow, front to back.

    Where two types are seen, the one that T1 shows on more places, and of equal ones the lower number.
    """
    places = {
        1: (t1 <= DARKER) & (t2 >= BRIGHTER),
        2: (t1 >= BRIGHTER) & (t2 >= NOT_DARKER),
        3: (t1 <= DARK_ON_BOTH) & (t2 <= DARK_ON_BOTH),
    }
    counted = {kind: int(_runs(where, NEIGHBOURS[kind]).sum()) for kind, where in places.items()}
    kind = max(counted, key=lambda each: (counted[each], -each))
    return kind if counted[kind] else 0


def _runs(where: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Whether ``length`` neighbours from each place on hold."""
    runs: NDArray[np.bool_] = np.lib.stride_tricks.sliding_window_view(where, length).min(axis=1)
    return runs


def _type(volume: SagittalVolume, t1: SagittalVolume, disc: Disc, direction: int, marrow: tuple[float, float]) -> int:
    down, normal = volume.voxel_to_patient[:3, 1], np.cross(*volume.voxel_to_patient[:3, 1:3].T)
    frame = frame_of(disc, down if abs(down[2]) > 0 else -normal, normal)
    band = _band(disc, frame, direction)
    on_t2, on_t1 = _sample(volume, band), _sample(t1, band)
    if not (np.isfinite(on_t1).mean(axis=0) > 0.5).all():
        return 0
    return kind_of(_in_parts(on_t2) / marrow[0], _in_parts(on_t1) / marrow[1])


def _in_parts(band: FloatArray) -> FloatArray:
    """(distances, positions) -> (PARTS,) medians."""
    return np.array([np.nanmedian(part) for part in np.array_split(band, PARTS, axis=1)])


def _band(disc: Disc, frame: DiscFrame, direction: int) -> FloatArray:
    """(distances, positions, 3) LPS mm along the end plate; positions where the outline is not met are left out."""
    along = np.linspace(-HALF_DEPTH, HALF_DEPTH, 5 * PARTS) * frame.depth_mm
    edges = chords_mm(in_frame_mm(disc.outline_lps_mm, frame), along)
    edge = edges[0] if direction < 0 else edges[1]
    met = np.isfinite(edge)
    across = edge[met] + direction * np.arange(AWAY_MM[0], AWAY_MM[1] + 0.1, 0.5)[:, None]
    points: FloatArray = frame.center_lps_mm + across[..., None] * frame.across + along[met][None, :, None] * frame.axis
    return points


def _marrow(volume: SagittalVolume, spine: Spine) -> float:
    """Median over the bodies of the signal in the middle of each; 0 where the volume shows none."""
    signals = [float(np.nanmedian(s)) for b in spine.bodies if np.isfinite(s := _sample(volume, _middle(b))).any()]
    return float(np.median(signals)) if signals else 0.0


def _middle(body: VertebralBody) -> FloatArray:
    """(n, 3) points in the middle 40 % of a body."""
    above_front, above_back, below_back, below_front = body.corners_lps_mm
    shares = np.linspace(0.3, 0.7, 9)
    along, down = (grid[..., None] for grid in np.meshgrid(shares, shares))
    upper, lower = above_front + along * (above_back - above_front), below_front + along * (below_back - below_front)
    points: FloatArray = (upper + down * (lower - upper)).reshape(-1, 3)
    return points


def _sample(volume: SagittalVolume, points_lps_mm: FloatArray) -> FloatArray:
    """(...,) linear interpolation within the nearest slice at (..., 3) LPS mm; NaN outside the images."""
    voxel = volume.to_voxel(points_lps_mm)
    nearest = np.rint(voxel[..., 0])
    outside: NDArray[np.bool_] = (np.abs(voxel[..., 0] - nearest.clip(0, volume.voxels.shape[0] - 1)) > 0.75) | (
        ((voxel[..., 1:] < 0) | (voxel[..., 1:] > np.array(volume.voxels.shape[1:]) - 1)).any(axis=-1)
    )
    places = np.stack([nearest.clip(0, volume.voxels.shape[0] - 1), voxel[..., 1], voxel[..., 2]])
    signals: FloatArray = ndimage.map_coordinates(volume.voxels, places, order=1, mode="nearest").astype(np.float64)
    signals[outside] = np.nan
    return signals
