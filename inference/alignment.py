"""How vertebral bodies stand to each other in the sagittal plane: angles, and the grade of a slip. No images in here.

* Angles are those between the upper end plates of two bodies, positive where they open to the front (lordosis): of
  neighbours the segmental one, of L1 and S1 the lumbar one (doi 10.1186/1749-799X-9-11, figure 2). So the segmental
  angles from L1 to S1 add up to the lumbar one. The patient lies: standing angles are larger.
* Meyerding's grade (1932): I up to a quarter of the lower end plate's depth, II to a half, III to three quarters, IV to
  the whole of it, V beyond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from inference.anatomy import Spine, Vertebra, VertebralBody
from inference.volume import FloatArray

LEAST_SLIP_MM = 3.0
"""A smaller offset is no slip: the limit that is usual on radiographs (Iguchi 2002, J Spinal Disord Tech 15:93), and
more than corners of one and the same body scatter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SagittalPlane:
    """Unit vectors (3,), LPS, that span the image plane."""

    down: FloatArray
    """Towards the feet."""
    back: FloatArray


def sagittal_plane(down: FloatArray, normal: FloatArray) -> SagittalPlane:
    """From the direction to the feet and the slice normal, both (3,) LPS; which way the normal points is no matter."""
    back = np.cross(down, normal)
    return SagittalPlane(down=down, back=back * (1 if back[1] >= 0 else -1))


def lordosis_deg(upper: VertebralBody, lower: VertebralBody, plane: SagittalPlane) -> float:
    """Angle between the upper end plates of two bodies, degrees; lordosis is positive, kyphosis negative."""
    return _slope_deg(lower, plane) - _slope_deg(upper, plane)


def lumbar_lordosis_deg(spine: Spine, plane: SagittalPlane) -> float | None:
    """Angle between the upper end plates of L1 and S1, degrees; None where one of them was not seen."""
    bodies = {body.level: body for body in spine.bodies}
    if Vertebra.L1 not in bodies or Vertebra.S1 not in bodies:
        return None
    return lordosis_deg(bodies[Vertebra.L1], bodies[Vertebra.S1], plane)


def meyerding_grade(slip_mm: float, slip_percent: float) -> int | None:
    """0 to 5 (0: no slip of at least ``LEAST_SLIP_MM``); None for a slip backwards, which Meyerding does not grade."""
    if slip_mm <= -LEAST_SLIP_MM:
        return None
    return 0 if slip_mm < LEAST_SLIP_MM else min(math.ceil(slip_percent / 25), 5)


def _slope_deg(body: VertebralBody, plane: SagittalPlane) -> float:
    """Of the upper end plate: positive where its front lies lower than its back."""
    backwards = body.corners_lps_mm[1] - body.corners_lps_mm[0]
    return math.degrees(math.atan2(-float(backwards @ plane.down), float(backwards @ plane.back)))
