"""The thecal sac at a disc: how wide it is, how much cerebrospinal fluid is left in it, and whether that is a stenosis.

* ``canal_ap_mm``: front to back wall on the disc's prolonged mid-line, as Chatha and Schweitzer 2011 (Bull NYU Hosp Jt
  Dis 69:303) measured on midline T2 images at each disc.
* ``csf_effacement_percent``: which share of the sac at the disc is as bright as fluid, beside the same share halfway to
  the next discs (mid-vertebral, where discs and facets do not narrow it): 0 = as much as there, 100 = none. It is the
  rootlet to fluid ratio of Schizas 2010 (Spine 35:1919), which is graded on axial images (no fluid = C and D, severe),
  taken on the mid-sagittal one. Not above L1/L2: there the cord fills the sac.

Neither on a lone slice: it may pass beside the middle of the sac. No label was there to validate the grade with.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from inference.anatomy import DiscLevel, Spine
from inference.grades import Basis, Doubt, Grade
from inference.volume import FloatArray, SagittalVolume

STENOSIS_MM = 9.0
"""Chatha and Schweitzer 2011: the usual limit of 10 mm (Steurer 2011, doi 10.1186/1471-2474-12-175) comes from
radiographs and CT of the bony canal and is too large for soft tissue on MR; they propose 9 mm. On SPIDER's stacks 10 mm
would call every fourth lumbar disc stenotic."""
RELATIVE_STENOSIS_MM = 12.0
"""Upper end of the 10-12 mm that are called relative stenosis (Verbiest; in Steurer 2011): a wider sac is not narrow,
whatever fills it."""
EFFACED_PERCENT = 70.0
"""Next to no fluid, as in Schizas C and D. On SPIDER's stacks 2 % of the discs from L1/L2 down; where exactly the limit
lies no label could tell."""
FREE_PERCENT = 25.0
"""So little effacement speaks against a stenosis: three quarters of the discs have less."""
FLUID = 0.5
"""As bright as fluid: half of the 80th percentile of the sac halfway to the next discs. Rootlets are darker."""
CRITERION_DIAMETER = (
    "midsagittal AP diameter of the thecal sac at disc level < 9 mm (Chatha 2011, Bull NYU Hosp Jt Dis 69:303)"
)
CRITERION = (
    "midsagittal AP diameter of the thecal sac at disc level < 9 mm (Chatha 2011, Bull NYU Hosp Jt Dis 69:303), "
    "or < 12 mm with 70 % or more of the CSF effaced (after Schizas 2010, Spine 35:1919)"
)

CORD = frozenset({DiscLevel.T9_T10, DiscLevel.T10_T11, DiscLevel.T11_T12, DiscLevel.T12_L1})
"""Where the cord or its end lies in the sac."""
AT_DISC_MM, BETWEEN_MM = 2.0, 4.0
"""Fluid is looked for on so much of the sac's length to either side, at a disc and halfway to the next one."""


def measure(volume: SagittalVolume, spine: Spine, index: int) -> dict[str, float]:
    """What is named above of one disc, as far as it was seen."""
    disc = spine.discs[index]
    if disc.canal_lps_mm is None or volume.voxels.shape[0] == 1:
        return {}
    measured = {"canal_ap_mm": float(np.linalg.norm(disc.canal_lps_mm[1] - disc.canal_lps_mm[0]))}
    if disc.level in CORD:
        return measured
    next_ones = [other for other in spine.discs[max(index - 1, 0) : index + 2] if other is not disc]
    between = [
        _signals(volume, (disc.canal_lps_mm + o.canal_lps_mm) / 2, (disc.slice_index + o.slice_index) // 2, BETWEEN_MM)
        for o in next_ones
        if o.canal_lps_mm is not None
    ]
    bright = float(np.percentile(np.concatenate(between), 80)) if between else 0.0
    if bright <= 0:
        return measured
    usual = float(np.mean([_fluid_share(each, bright) for each in between]))
    here = _fluid_share(_signals(volume, disc.canal_lps_mm, disc.slice_index, AT_DISC_MM), bright)
    return {**measured, "csf_effacement_percent": 100 * (1 - min(here / usual, 1.0))}


def stenosis(measured: Mapping[str, float]) -> Grade | None:
    """Central canal stenosis: 1 by the criterion, else 0; None where the diameter was not measured.

    Uncertain where a narrow sac holds nearly as much fluid as above and below it. It has no probabilities.
    """
    canal_ap_mm, effaced = measured.get("canal_ap_mm"), measured.get("csf_effacement_percent")
    if canal_ap_mm is None:
        return None
    is_narrow = canal_ap_mm < STENOSIS_MM
    is_effaced = effaced is not None and effaced >= EFFACED_PERCENT and canal_ap_mm < RELATIVE_STENOSIS_MM
    is_free = effaced is not None and effaced < FREE_PERCENT
    return Grade(
        value=int(is_narrow or is_effaced),
        probabilities={},
        basis=Basis.MEASURED,
        criterion=CRITERION_DIAMETER if effaced is None else CRITERION,
        doubt=Doubt.UNSURE if is_narrow and is_free else None,
    )


def _fluid_share(signals: FloatArray, bright: float) -> float:
    return float((signals > FLUID * bright).mean())


def _signals(volume: SagittalVolume, walls_lps_mm: FloatArray, slice_index: int, half_length_mm: float) -> FloatArray:
    """(n,) signals across the sac between its two walls, over a length along it, on one slice."""
    across = walls_lps_mm[1] - walls_lps_mm[0]
    along = np.cross(np.cross(volume.voxel_to_patient[:3, 1], volume.voxel_to_patient[:3, 2]), across)
    along = along / max(float(np.linalg.norm(along)), 1e-9)
    line = np.linspace(walls_lps_mm[0], walls_lps_mm[1], 41)
    points = line + np.linspace(-half_length_mm, half_length_mm, 5)[:, None, None] * along
    voxel = volume.to_voxel(points.reshape(-1, 3))
    plane = volume.voxels[slice_index]
    signals: FloatArray = ndimage.map_coordinates(plane, voxel[:, 1:].T, order=1, mode="nearest").astype(np.float64)
    return signals
