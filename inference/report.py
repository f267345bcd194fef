"""What grading a study gives: a Report, or Declined with the reason. No torch and no pydicom in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from inference.anatomy import Canal, DiscLevel, Spine, Vertebra
from inference.grades import Finding, Grade, Grades
from inference.volume import FloatArray, SagittalVolume, VoxelArray


class Method(StrEnum):
    """SpineNet's three visualisation methods, the contrastive variant of the third, and that with the first."""

    GRADIENT_SALIENCY = "gradient_saliency"
    """Simonyan, Vedaldi, Zisserman 2014."""
    GUIDED_BACKPROPAGATION = "guided_backpropagation"
    """Springenberg et al. 2015."""
    EXCITATION_BACKPROPAGATION = "excitation_backpropagation"
    """Zhang et al. 2016."""
    CONTRASTIVE_EXCITATION = "contrastive_excitation_backpropagation"
    """Zhang et al. 2016, section 3.3."""
    GRADIENT_IN_EXCITATION = "gradient_in_contrastive_excitation"
    """The gradient's magnitude times contrastive excitation, as Guided Grad-CAM (Selvaraju et al. 2017, section 3.2)
    multiplies a map of pixels and a map of a class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceMap:
    """Where in the source images a grade of a disc comes from: a box of the volume's own voxel grid.

    Outside the box the map is 0. Values are scaled so that the largest of the map is 1.
    """

    finding: Finding
    method: Method
    first_voxel: tuple[int, int, int]
    """(slice, row, column) of ``values[0, 0, 0]`` in the report's volume."""
    values: VoxelArray
    """(slices, rows, columns) float32, 0-1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscGrading:
    """All that is said of one disc."""

    level: DiscLevel
    level_confidence: float
    slice_index: int
    """Mid-slice of the disc in the report's volume."""
    center_lps_mm: FloatArray
    outline_lps_mm: FloatArray
    """(n, 3), not closed."""
    grades: Grades
    measurements: Mapping[str, float]
    """Name with unit (``disc_height_mm``) -> value. See ``inference.measurements`` for methods and sources."""
    evidence: tuple[EvidenceMap, ...]
    withheld_place: int | None = None
    """Set where the level is withheld, because its name would be a guess: the disc's place counted from below, 1 for
    the lowest one graded. No reader is shown ``level`` then."""
    modic_types: Mapping[Finding, Grade] = field(default_factory=dict)
    """Of a marrow change on either side its Modic type 1, 2 or 3, measured on T1 and T2; absent where no T1 series is
    there or none of the types is clear."""
    slices_used: tuple[int, ...] = ()
    """Indices of the slices of the report's volume that the learned grades go by, ascending."""

    @property
    def name(self) -> str:
        """What a reader is told: the level, or the place where the level is withheld."""
        return self.level.value if self.withheld_place is None else f"disc {self.withheld_place}"


Structure = DiscLevel | Vertebra | Canal


@dataclass(frozen=True, kw_only=True, slots=True)
class Segments:
    """Which structure each voxel of the report's volume belongs to."""

    labels: NDArray[np.uint8]
    """(slices, rows, columns): n for ``structures[n - 1]``, 0 for none of them."""
    structures: tuple[Structure, ...]
    """Discs, bodies (a vertebra stands for its body), the canal; each has at least one voxel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelIdentity:
    """Which weights spoke: ``sha256`` is over all weight files together."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedSeries:
    """A series that was not graded, and why not."""

    series_instance_uid: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A graded study."""

    study_instance_uid: str
    volume: SagittalVolume
    spine: Spine
    discs: tuple[DiscGrading, ...]
    """Head to foot."""
    segments: Segments
    quality: tuple[str, ...]
    """Sentences that tell a reader when to doubt; empty when there is nothing to say."""
    rejected: tuple[RejectedSeries, ...]
    model: ModelIdentity
    timing_s: Mapping[str, float]
    measurements: Mapping[str, float] = field(default_factory=dict)
    """Of the whole spine: name with unit (``lumbar_lordosis_deg``) -> value."""

    @property
    def withheld(self) -> Mapping[Structure, str]:
        """Structures whose level no reader is told, and what they are called instead."""
        names: dict[Structure, str] = {}
        named = {disc.level.upper_vertebra for disc in self.discs if disc.withheld_place is None}
        for disc in reversed(self.discs):
            if disc.withheld_place is not None:
                upper, lower = disc.level.upper_vertebra, disc.level.lower_vertebra
                if lower not in named:
                    names.setdefault(lower, f"body below disc {disc.withheld_place}")
                names |= {disc.level: disc.name, upper: f"body above disc {disc.withheld_place}"}
        return names


@dataclass(frozen=True, kw_only=True, slots=True)
class Declined:
    """A study that was not graded: an outcome, with its reason."""

    study_instance_uid: str
    reason: str
    rejected: tuple[RejectedSeries, ...]
    model: ModelIdentity
