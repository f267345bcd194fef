"""Finds the discs and vertebral bodies of a sagittal volume. Names no levels.

The localiser marks each slice by itself; the marks are then blended along the thecal sac into one plane that follows
the spine (a scoliotic spine leaves any one slice), the chain of discs is found there, and each disc is traced on its
own mid-slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from inference.anatomy import Found
from inference.chain import FAINT, Candidate, beneath, discs_of
from inference.marks import Marks, Plane, Tissue
from inference.networks.localiser import standardised
from inference.outlines import EDGE, TracedDisc, trace_disc
from inference.seen_discs import SeenDisc, found_bodies, found_disc
from inference.volume import FloatArray, SagittalVolume, VoxelArray, upright, without_margins

SLICE_STEP_MM = 2.0
"""Slices closer than this are not all looked at; clinical series are 3-5 mm apart, so all of theirs are."""
CHUNK = 4
"""Slices marked at once: small enough for the CPU's cache, measured faster than all at once."""
BLEND_MM = 5.0
"""Slices so near to the middle of the sac vote together; the sac is 15-20 mm wide."""
FOLLOW_MM = 10.0
"""Along the spine the middle of the sac is smoothed with this Gaussian (with 20 mm a scoliosis was cut short)."""
STRAY_SHARE = 0.15
"""A part of the marks smaller than this share of the largest part does not move the middle."""
LEAST_SAC_MM2 = 150.0
"""Less sac than this on all slices together cannot guide the choice of mid-slices; discs and bodies do it then."""


USUAL_SIZE_MM, PLAUSIBLE_SIZE_MM = 34.5, (26.5, 42.0)
"""Size of a spine: geometric mean of the median depth of its discs and of the median distance between them. That of
SPIDER's images, and where 95 % of them lie; a spine beyond it is looked at once more as if it were of usual size."""
USUAL_FIELD_MM, PLAUSIBLE_FIELD_MM = 320.0, (140.0, 560.0)
"""Height of the image; SPIDER's images have 200-520 mm."""
OTHER_SCALES = (0.55, 1.8)
"""Tried where no spine is seen at the size that the header says."""
CLEAR = 0.75
"""Confidence from which on a disc speaks for a scale; a network that sees bodies far too large finds discs in them."""
LEAST_CHAIN = 4
"""With fewer discs in a row, other sizes are tried."""
LOOKS = 3
"""A spine half as large as the header says may need two steps to its usual size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """A volume as detection saw it, and what the localiser marked there."""

    seen: SagittalVolume
    """Upright, and without what was filled in at its edges."""
    marks: Marks
    middle: FloatArray
    """(rows,) as ``middle_places`` gives it."""
    plane: Plane
    """The marks along ``middle``."""
    chain: tuple[Candidate, ...]
    """The discs on that plane, head to foot."""

    scale: float
    """How much larger than it says the volume was taken to be."""

    @property
    def size_mm(self) -> float:
        """As in ``USUAL_SIZE_MM``, of the spine as the localiser was shown it; NaN where there is no chain."""
        if len(self.chain) < LEAST_CHAIN:
            return float("nan")
        depth = np.median([disc.width_mm for disc in self.chain])
        step = np.median([np.linalg.norm(b.center_mm - a.center_mm) for a, b in pairwise(self.chain)])
        return float(np.sqrt(depth * step))

    @property
    def field_mm(self) -> float:
        """Height of the image as the localiser was shown it."""
        return float(self.plane.size_mm[0])

    @property
    def plausible(self) -> bool:
        return (
            PLAUSIBLE_SIZE_MM[0] <= self.size_mm <= PLAUSIBLE_SIZE_MM[1]
            and PLAUSIBLE_FIELD_MM[0] <= self.field_mm <= PLAUSIBLE_FIELD_MM[1]
        )

    @property
    def worth(self) -> tuple[bool, float]:
        """The larger, the likelier it is that the spine was seen in its right size."""
        return self.plausible, sum(max(disc.confidence - CLEAR, 0.0) for disc in self.chain)

    def other_scales(self) -> tuple[float, ...]:
        """Under which the spine, or else the image, would have its usual size."""
        if not PLAUSIBLE_FIELD_MM[0] <= self.field_mm <= PLAUSIBLE_FIELD_MM[1]:
            return (self.scale * USUAL_FIELD_MM / self.field_mm,)
        if len(self.chain) < LEAST_CHAIN:
            return OTHER_SCALES
        return (self.scale * USUAL_SIZE_MM / self.size_mm,)


def look(volume: SagittalVolume, localiser: nn.Module) -> Looked:
    """Every slice marked, and the chain of discs on the plane through the middle of the spine.

    Where the discs are of a size that no discs have, or there are none, the image is looked at once more as if its
    pixels were larger or smaller: a pixel size may be missing from an image's header, or wrong in it.

    Arguments:
        volume: any in-plane orientation; one slice is enough.
        localiser: ``networks.localiser.Localiser`` in eval mode; its device does the work.
    """
    seen = upright(without_margins(volume))
    best = _look(seen, localiser, 1.0)
    for _ in range(LOOKS - 1):
        if best.plausible:
            break
        others = [_look(seen, localiser, scale) for scale in best.other_scales()]
        best = max((best, *others), key=lambda each: each.worth)
    return best


def _look(seen: SagittalVolume, localiser: nn.Module, scale: float) -> Looked:
    marks = mark(seen, localiser, scale)
    middle = middle_places(marks)
    stride = marks.slice_indices[1] - marks.slice_indices[0] if len(marks.slice_indices) > 1 else 1
    plane = marks.blended(middle, reach=BLEND_MM / (stride * seen.spacing_mm[0]))
    return Looked(seen=seen, marks=marks, middle=middle, plane=plane, chain=discs_of(plane), scale=scale)


def find(volume: SagittalVolume, localiser: nn.Module) -> Found:
    """``find_in`` of ``look``."""
    return find_in(look(volume, localiser))


def find_in(looked: Looked) -> Found:
    """Discs and bodies of the volume, head to foot; empty where there is no chain of discs."""
    seen, marks, middle, plane = looked.seen, looked.marks, looked.middle, looked.plane
    found: list[SeenDisc] = []
    for candidate in looked.chain:
        row = int(np.clip(candidate.center_mm[0] / plane.pixel_mm[0], 0, len(middle) - 1))
        place = int(np.clip(round(middle[row]), 0, len(marks.slice_indices) - 1))
        traced = _traced(marks.plane(place), plane, candidate)
        if traced is not None:
            found.append(SeenDisc(candidate=candidate, place=place, traced=traced, below=beneath(plane, candidate)))
    discs = tuple(found_disc(seen, marks, each) for each in found)
    return Found(discs=discs, bodies=found_bodies(seen, marks, found))


def mark(upright_volume: SagittalVolume, localiser: nn.Module, scale: float = 1.0) -> Marks:
    """The localiser's probabilities on every slice, or every few where slices are thinner than ``SLICE_STEP_MM``.

    Slices are resampled to about the localiser's ``pixel_mm``, anti-aliased, as if their pixels were ``scale`` times
    as large as they are said to be; millimetres of the marks are of that size, too.
    """
    between, *in_plane = upright_volume.spacing_mm
    spacing = (between, in_plane[0] * scale, in_plane[1] * scale)
    stride = max(1, int(SLICE_STEP_MM / spacing[0] + 1e-6))
    count = len(upright_volume.voxels)
    indices = tuple(range((count - 1) % stride // 2, count, stride))
    rows, columns = upright_volume.voxels.shape[1:]
    pixel_mm = float(localiser.pixel_mm)  # type: ignore[arg-type]
    size = (max(1, round(rows * spacing[1] / pixel_mm)), max(1, round(columns * spacing[2] / pixel_mm)))
    device = next(localiser.parameters()).device
    edge = int(localiser.stride)  # type: ignore[arg-type]
    padding = (0, -size[1] % edge, 0, -size[0] % edge)
    parts: list[VoxelArray] = []
    with torch.inference_mode(), autocast(device):
        for start in range(0, len(indices), CHUNK):
            chosen = torch.from_numpy(upright_volume.voxels[list(indices[start : start + CHUNK])]).to(device)
            small = functional.interpolate(chosen[:, None], size, mode="bilinear", antialias=True, align_corners=False)[
                :, 0
            ]
            slices = functional.pad(standardised(small), padding).contiguous(memory_format=torch.channels_last)
            logits = localiser(slices)[:, :, : size[0], : size[1]]
            parts.append(torch.sigmoid(logits.float()).cpu().numpy())
    return Marks(
        probabilities=np.concatenate(parts),
        slice_indices=indices,
        pixel_mm=np.array([rows * spacing[1] / size[0], columns * spacing[2] / size[1]]),
        voxels_per_pixel=np.array([rows / size[0], columns / size[1]]),
    )


def autocast(device: torch.device) -> torch.autocast:
    """Half precision where the device computes in it: fp16 on CUDA, bf16 on CPUs with AVX-512 BF16 (half the time)."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.float16)
    native = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())  # elsewhere bf16 is emulated, and slow
    return torch.autocast("cpu", torch.bfloat16, enabled=native)


def middle_places(marks: Marks) -> FloatArray:
    """(rows,) place among the marked slices where the middle of the spine is, for each row; not rounded.

    The mean place of the sac's marks in each row, smoothed along the body; of the discs' and bodies' marks where
    no sac is seen. With nothing marked at all: the middle of the stack.
    """
    count = len(marks.slice_indices)
    rows = marks.probabilities.shape[2]
    if count == 1:
        return np.zeros(rows)
    sure = np.where(marks.probabilities > 0.5, marks.probabilities, 0.0)
    mass = sure[:, Tissue.CANAL].sum(axis=2).astype(np.float64)  # (slices, rows)
    if mass.sum() * float(np.prod(marks.pixel_mm)) < LEAST_SAC_MM2:
        mass = sure[:, Tissue.DISC].sum(axis=2).astype(np.float64)
    if mass.sum() == 0:
        return np.full(rows, (count - 1) / 2)
    mass = _large_parts(mass)
    sigma = FOLLOW_MM / marks.pixel_mm[0]
    weight = ndimage.gaussian_filter1d(mass.sum(axis=0), sigma, mode="constant")
    moment = ndimage.gaussian_filter1d((mass * np.arange(count)[:, None]).sum(axis=0), sigma, mode="constant")
    known = weight > 1e-3 * weight.max()
    at = np.arange(rows)
    middle: FloatArray = np.interp(at, at[known], moment[known] / weight[known])
    return middle


def _large_parts(mass: FloatArray) -> FloatArray:
    """Without stray marks; a sac in several parts (stenosis interrupts it) keeps them all."""
    components, count = ndimage.label(mass > 0, structure=np.ones((3, 3)))
    sizes = ndimage.sum_labels(mass, components, range(1, count + 1))
    large = np.flatnonzero(sizes >= STRAY_SHARE * sizes.max()) + 1
    kept: FloatArray = np.where(np.isin(components, large), mass, 0.0)
    return kept


def _traced(own: Plane, blended: Plane, candidate: Candidate) -> TracedDisc | None:
    """The disc on its own mid-slice; where not marked there, on the blended plane; where faint, lower."""
    for plane in (own, blended, own.lifted(Tissue.DISC, FAINT / EDGE), blended.lifted(Tissue.DISC, FAINT / EDGE)):
        traced = trace_disc(plane, candidate)
        if traced is not None:
            return traced
    return None
