"""The lumbar spine in patient space: levels, vertebral bodies, discs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inference.volume import FloatArray


class Vertebra(StrEnum):
    """Vertebral levels that a lumbar study may show, head to foot."""

    T9 = "T9"
    T10 = "T10"
    T11 = "T11"
    T12 = "T12"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"
    L4 = "L4"
    L5 = "L5"
    S1 = "S1"


class DiscLevel(StrEnum):
    """Intervertebral discs by the vertebrae above and below them, head to foot (CID 7604 names the lumbar ones)."""

    T9_T10 = "T9/T10"
    T10_T11 = "T10/T11"
    T11_T12 = "T11/T12"
    T12_L1 = "T12/L1"
    L1_L2 = "L1/L2"
    L2_L3 = "L2/L3"
    L3_L4 = "L3/L4"
    L4_L5 = "L4/L5"
    L5_S1 = "L5/S1"

    @property
    def upper_vertebra(self) -> Vertebra:
        return Vertebra(self.value.split("/")[0])

    @property
    def lower_vertebra(self) -> Vertebra:
        return Vertebra(self.value.split("/")[1])


class Canal(StrEnum):
    """What runs behind the bodies and discs."""

    SPINAL_CANAL = "spinal canal"
    """Thecal sac and what is about it, as SPIDER's masks draw it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VertebralBody:
    """A vertebral body by its four mid-sagittal corners."""

    level: Vertebra
    corners_lps_mm: FloatArray
    """(4, 3), in the order superior anterior, superior posterior, inferior posterior, inferior anterior."""

    @property
    def center_lps_mm(self) -> FloatArray:
        """(3,) mean of the corners."""
        center: FloatArray = self.corners_lps_mm.mean(axis=0)
        return center


@dataclass(frozen=True, kw_only=True, slots=True)
class Disc:
    """An intervertebral disc, found and named, on its own mid-sagittal slice."""

    level: DiscLevel
    level_confidence: float
    """0-1: how sure the naming is (not the finding)."""
    slice_index: int
    """Index of the disc's mid-slice in the volume."""
    outline_lps_mm: FloatArray
    """(n, 3) polygon on the mid-slice, not closed (the first point is not repeated)."""
    center_lps_mm: FloatArray
    """(3,)"""
    anterior_lps_mm: FloatArray
    """(3,) front end of the disc's mid-line; with ``posterior_lps_mm`` it gives the disc's axis and depth."""
    posterior_lps_mm: FloatArray
    """(3,) back end of the disc's mid-line."""
    canal_lps_mm: FloatArray | None
    """(2, 3) front and back wall of the thecal sac on the prolonged mid-line; None where it was not seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spine:
    """What is seen of the lumbar spine, head to foot: discs, the bodies about them, and what to doubt."""

    bodies: tuple[VertebralBody, ...]
    discs: tuple[Disc, ...]
    doubts: tuple[str, ...]
    """Sentences for the reader, e.g. "L5/S1 may lie outside the image: levels may be off by one"."""

    @property
    def level_confidence(self) -> float:
        """0-1: how sure it is that every name is right: that of the least sure disc; 0 where none is named."""
        return min((disc.level_confidence for disc in self.discs), default=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundBody:
    """A vertebral body that was seen but not yet named."""

    corners_lps_mm: FloatArray
    """(4, 3), in the order superior anterior, superior posterior, inferior posterior, inferior anterior."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundDisc:
    """A disc that was seen but not yet named. Geometry as in ``Disc``."""

    slice_index: int
    outline_lps_mm: FloatArray
    center_lps_mm: FloatArray
    anterior_lps_mm: FloatArray
    posterior_lps_mm: FloatArray
    canal_lps_mm: FloatArray | None
    complete: bool
    """False where the edge of the image cuts through the disc: it counts for naming, and is not graded."""
    confidence: float
    """0-1: mean probability of the pixels taken as disc."""
    sacrum_beneath: float
    """0-1: mean probability of S1 where a body would lie beneath this disc."""
    vertebra_beneath: float
    """0-1: mean probability of a vertebra above S1 at the same place."""
    beneath_in_view: float
    """0-1: how much of that place the image shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What detection saw of a spine, head to foot, before levels are named."""

    discs: tuple[FoundDisc, ...]
    bodies: tuple[FoundBody | None, ...]
    """One more than discs: ``bodies[i]`` lies above ``discs[i]``; None where it was not seen whole."""
