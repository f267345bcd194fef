"""What can be measured on a named spine, each with its published method.

* ``disc_height_mm``: mean of ``disc_height_anterior_mm``, ``_middle_mm``, ``_posterior_mm``, the heights at 20, 50 and
  80 % of the mid-line: the three-point way, as compared with others in Spahn 2024 (doi 10.1055/a-1994-0879).
* ``disc_depth_mm``: length of the disc's mid-line. ``disc_height_index``: mean height / depth, no unit (Farfan 1972).
* ``slip_mm``, ``slip_percent``: offset of the posterior corners along the lower end plate, and as a share of that end
  plate's depth (Meyerding 1932, Taillard 1954). Positive = the upper body stands forward. ``meyerding_grade``: see
  ``inference.alignment``.
* ``segmental_lordosis_deg``: angle between the upper end plates of the bodies above and below the disc.
  ``lumbar_lordosis_deg``, of the whole spine: that of L1 and S1. See ``inference.alignment``.
* ``disc_height_loss_percent``: how much of the height index that is usual at the level the disc has lost; see
  ``inference.narrowing``.
* ``canal_ap_mm``, ``csf_effacement_percent``: the thecal sac at the disc, and the fluid in it; see ``inference.canal``.
* ``disc_to_csf_signal_ratio``: median of the disc's inner half over the 90th percentile of the sac; a signal adjusted
  within the image follows Pfirrmann's grades 1 to 4 (Salamat 2016, doi 10.1186/s40064-016-2542-5).
* ``upper_vertebra_to_csf_signal_ratio``, ``lower_...``: the same of the bodies above and below the disc, median of
  their inner half.

A value outside its sane range is left out, never shown: it tells of a failed outline, not of the patient. What was left
out is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from inference import canal, narrowing
from inference.alignment import SagittalPlane, lordosis_deg, lumbar_lordosis_deg, meyerding_grade, sagittal_plane
from inference.anatomy import Disc, DiscLevel, Spine, Vertebra, VertebralBody
from inference.geometry import DiscFrame, frame_of, heights_mm, neighbours, slip_mm
from inference.volume import FloatArray, SagittalVolume

Measured = Mapping[str, float]
"""Name with unit -> value."""

SANE: Mapping[str, tuple[float, float]] = {
    "disc_height_mm": (1.0, 20.0),
    "disc_height_anterior_mm": (0.5, 25.0),
    "disc_height_middle_mm": (0.5, 25.0),
    "disc_height_posterior_mm": (0.5, 25.0),
    "disc_depth_mm": (15.0, 60.0),
    "disc_height_index": (0.03, 0.8),
    "disc_height_loss_percent": (0.0, 100.0),
    "csf_effacement_percent": (0.0, 100.0),
    "slip_mm": (-20.0, 40.0),
    "slip_percent": (-50.0, 100.0),
    "meyerding_grade": (0.0, 5.0),
    "segmental_lordosis_deg": (-30.0, 50.0),
    "canal_ap_mm": (3.0, 30.0),
    "disc_to_csf_signal_ratio": (0.0, 2.0),
    "upper_vertebra_to_csf_signal_ratio": (0.0, 3.0),
    "lower_vertebra_to_csf_signal_ratio": (0.0, 3.0),
    "lumbar_lordosis_deg": (-30.0, 110.0),
}
"""Wider than any anatomy, narrower than the usual failures (outlines that join two discs, a corner on the canal)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A value that was measured and is not shown, because no patient has it."""

    level: DiscLevel | None
    """None for what is measured on the whole spine."""
    name: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurements:
    """All that was measured."""

    discs: tuple[Measured, ...]
    """One for each disc of the spine, in its order."""
    spine: Measured
    """Of the whole spine."""
    left_out: tuple[LeftOut, ...]


def measure(volume: SagittalVolume, spine: Spine) -> Measurements:
    """What is named at the top of this module, as far as it was seen."""
    down, normal = volume_directions(volume)
    plane = sagittal_plane(down, normal)
    csf = _csf_signal(volume, spine)
    discs: list[Measured] = []
    left_out: list[LeftOut] = []
    for index, disc in enumerate(spine.discs):
        frame = frame_of(disc, down, normal)
        values = {**_disc_lengths(disc, frame), **_slip(disc, spine), **_angle(disc, spine, plane)}
        values |= canal.measure(volume, spine, index)
        if csf > 0:
            values |= {name: signal / csf for name, signal in _signals(volume, spine, disc, frame).items()}
        discs.append(_sane(values, disc.level, left_out))
    discs = _with_losses(spine, discs, left_out)
    lordosis = lumbar_lordosis_deg(spine, plane)
    of_spine = {} if lordosis is None else {"lumbar_lordosis_deg": lordosis}
    return Measurements(discs=tuple(discs), spine=_sane(of_spine, None, left_out), left_out=tuple(left_out))


def _with_losses(spine: Spine, discs: list[Measured], left_out: list[LeftOut]) -> list[Measured]:
    """With the height that each disc has lost, which needs the other discs'."""
    levels = [disc.level for disc in spine.discs]
    losses = narrowing.losses_percent(levels, [values.get("disc_height_index", np.nan) for values in discs])
    return [
        {**values, **_sane({"disc_height_loss_percent": float(np.maximum(loss, 0))}, level, left_out)}
        for values, loss, level in zip(discs, losses, levels, strict=True)
    ]


def volume_directions(volume: SagittalVolume) -> tuple[FloatArray, FloatArray]:
    """Unit vectors (3,) LPS: along the image plane towards the feet, and along the slice normal."""
    rows, columns = volume.voxel_to_patient[:3, 1], volume.voxel_to_patient[:3, 2]
    along = rows if abs(rows[2]) >= abs(columns[2]) else columns
    normal = np.cross(rows, columns)
    return -np.sign(along[2]) * along / np.linalg.norm(along), normal / np.linalg.norm(normal)


def _sane(values: Measured, level: DiscLevel | None, left_out: list[LeftOut]) -> Measured:
    """The values within their ranges; adds the others to ``left_out``. What could not be taken (NaN) is just absent."""
    kept = {}
    for name, value in values.items():
        low, high = SANE[name]
        if low <= value <= high:
            kept[name] = value
        elif np.isfinite(value):
            left_out.append(LeftOut(level=level, name=name, value=value))
    return kept


def _disc_lengths(disc: Disc, frame: DiscFrame) -> dict[str, float]:
    front, middle, back = heights_mm(disc, frame)
    mean_mm = (front + middle + back) / 3
    return {
        "disc_height_mm": mean_mm,
        "disc_height_anterior_mm": front,
        "disc_height_middle_mm": middle,
        "disc_height_posterior_mm": back,
        "disc_depth_mm": frame.depth_mm,
        "disc_height_index": mean_mm / frame.depth_mm,
    }


def _slip(disc: Disc, spine: Spine) -> dict[str, float]:
    upper, lower = neighbours(disc, spine)
    if upper is None or lower is None:
        return {}
    if lower.level is Vertebra.S1:
        lower = _reaching_as_far_as(disc, lower)
    slip, depth_mm = slip_mm(upper, lower)
    measured = {"slip_mm": slip, "slip_percent": 100 * slip / depth_mm}
    if all(low <= measured[name] <= high for name, (low, high) in SANE.items() if name in measured):
        grade = meyerding_grade(slip, measured["slip_percent"])
        measured |= {} if grade is None else {"meyerding_grade": float(grade)}
    return measured


def _angle(disc: Disc, spine: Spine, plane: SagittalPlane) -> dict[str, float]:
    upper, lower = neighbours(disc, spine)
    if upper is None or lower is None:
        return {}
    return {"segmental_lordosis_deg": lordosis_deg(upper, lower, plane)}


def _reaching_as_far_as(disc: Disc, sacrum: VertebralBody) -> VertebralBody:
    """S1 with the upper corners at the ends of the disc on it.

    Its own are estimates from marks that end before the cortex does: against them nearly every L5 stands behind S1.
    """
    corners = sacrum.corners_lps_mm.copy()
    corners[0], corners[1] = disc.anterior_lps_mm, disc.posterior_lps_mm
    return replace(sacrum, corners_lps_mm=corners)


def _csf_signal(volume: SagittalVolume, spine: Spine) -> float:
    """90th percentile of the signal across the thecal sac at all discs; 0 where no sac was seen."""
    profiles = [
        _sample(volume, disc, np.linspace(disc.canal_lps_mm[0], disc.canal_lps_mm[1], 32))
        for disc in spine.discs
        if disc.canal_lps_mm is not None
    ]
    return float(np.percentile(np.concatenate(profiles), 90)) if profiles else 0.0


def _signals(volume: SagittalVolume, spine: Spine, disc: Disc, frame: DiscFrame) -> dict[str, float]:
    """Signals of the disc and of its bodies, by the name of the ratio that they make."""
    upper, lower = neighbours(disc, spine)
    signals = {"disc_to_csf_signal_ratio": _inner_signal(volume, disc, frame)}
    for side, body in (("upper", upper), ("lower", lower)):
        if body is not None:
            signals[f"{side}_vertebra_to_csf_signal_ratio"] = _body_signal(volume, disc, body)
    return signals


def _body_signal(volume: SagittalVolume, disc: Disc, body: VertebralBody) -> float:
    """Median signal within the middle half of the body's height and depth, on the disc's mid-slice."""
    above_front, above_back, below_back, below_front = body.corners_lps_mm
    shares = np.linspace(0.25, 0.75, 9)
    along, down = (grid[..., None] for grid in np.meshgrid(shares, shares))
    upper_edge = above_front + along * (above_back - above_front)
    lower_edge = below_front + along * (below_back - below_front)
    points = upper_edge + down * (lower_edge - upper_edge)
    return float(np.median(_sample(volume, disc, points.reshape(-1, 3))))


def _inner_signal(volume: SagittalVolume, disc: Disc, frame: DiscFrame) -> float:
    """Median signal within the middle half of the disc's depth and the middle half of its height."""
    height_mm = heights_mm(disc, frame)[1]
    if not np.isfinite(height_mm):
        return float("nan")
    along = np.linspace(-0.25, 0.25, 15) * frame.depth_mm
    across = np.linspace(-0.25, 0.25, 7) * height_mm
    points = frame.center_lps_mm + along[:, None, None] * frame.axis[None, None] + across[None, :, None] * frame.across
    return float(np.median(_sample(volume, disc, points.reshape(-1, 3))))


def _sample(volume: SagittalVolume, disc: Disc, points_lps_mm: FloatArray) -> FloatArray:
    """(n,) linear interpolation on the disc's own mid-slice at (n, 3) LPS mm."""
    voxel = volume.to_voxel(points_lps_mm)
    plane = volume.voxels[disc.slice_index]
    sampled: FloatArray = ndimage.map_coordinates(plane, voxel[:, 1:].T, order=1, mode="nearest").astype(np.float64)
    return sampled
