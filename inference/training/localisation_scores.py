"""How well discs are found and named on patients that the network has not seen: one row per image or stack.

Boxes are believed only where none is missing (``spider.disc_boxes``). Figures over the rows, with their intervals, are
in ``localisation_figures``; the page that shows them in ``localisation_page``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from scipy import ndimage
from torch import nn

from inference import detection, labelling
from inference.anatomy import DiscLevel, Found, FoundDisc, Spine
from inference.marks import Tissue
from inference.networks.localiser import Localiser
from inference.training import spider
from inference.training.localisation import held_out_patients
from inference.volume import FloatArray, SagittalVolume, Unsuitable, upright
from inference.weights import config_of, fused, load_localiser

LEVELS_UPWARDS = tuple(reversed(DiscLevel))
SURE = 0.9
"""From this confidence of the whole spine on, a wrong level is confidently wrong; below it the scan is flagged."""
COUNTED_MM = 3.5
"""A disc whose seen part has its centre nearer to the upper edge is not counted: SPIDER's readers left such ones out
(seen on fold 0; half the height of a disc)."""
EDGE_MM = 3.0
"""A box that comes so near to the edge of the image holds a disc that is cut off, or nearly."""

Unseen = Mapping[int, nn.Module]
"""Patient -> a localiser that was trained without him."""
Seen = Mapping[int, nn.Module]
"""Patient -> a localiser that was trained on him."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageScore:
    """One mid-sagittal image."""

    name: str
    patient: int
    weighting: str
    counted: int
    """Discs found down to the one taken for L5/S1, without one that the upper edge leaves a sliver of."""
    expected: int | None
    """Discs that SPIDER counts in the mask of the series."""
    confidence: float
    """Of the whole spine; 0 where naming refuses."""
    doubts: tuple[str, ...]
    against_boxes: BoxScore | None
    """None where the image has no boxes, or too few of them to give the levels."""

    @property
    def flagged(self) -> bool:
        return self.confidence < SURE


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxScore:
    """An image against its disc boxes."""

    boxes: int
    found: int
    """Boxes with a found disc's centre inside, named or not."""
    missed_inside: int
    """Boxes without one that are not at the edge of the image."""
    extra: int
    """Found discs in no box that are not above the highest box."""
    extra_above: int
    """Found discs in no box above the highest box: readers left off somewhere."""
    named: int
    """Boxes whose disc has a name; a disc that the edge of the image cuts off gets none."""
    named_right: int
    unnamed_inside: int
    """Boxes without a named disc that are not at the edge of the image."""
    center_errors_mm: tuple[float, ...]

    @property
    def levels_right(self) -> bool:
        """Every disc that is wholly in the image has its name, and no name is wrong."""
        return self.named_right == self.named and self.unnamed_inside == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StackScore:
    """One T2-SPACE stack against its mask."""

    patient: int
    dice: Mapping[Tissue, float]


def unseen(folder: Path) -> Unseen:
    """What ``localisation.cross_validate`` wrote: each patient with the network of the fold that left him out.

    Patients of folds that are not trained yet are left out.
    """
    folds = json.loads((folder / "folds.json").read_text())
    networks: dict[int, nn.Module] = {}
    for number, patients in enumerate(folds):
        path = folder / f"fold{number}.safetensors"
        if path.exists():
            networks |= dict.fromkeys(patients, read_localiser(path))
    return networks


def shipped(root: Path) -> Unseen:
    """The shipped network, for the patients held out from it."""
    return dict.fromkeys(held_out_patients(root), load_localiser("cpu"))


def shipped_to_its_own(root: Path) -> Seen:
    """The shipped network, for the patients with stacks that it was trained on."""
    own = set(spider.stack_patients(root)) - held_out_patients(root)
    return dict.fromkeys(own, load_localiser("cpu"))


def read_localiser(path: Path) -> nn.Module:
    """A localiser in eval mode on the CPU from any weights file that ``localisation.write`` made."""
    network = Localiser(**config_of(path))
    network.load_state_dict(load_file(path), strict=True)
    return fused(network.eval())


def score_image(
    volume: SagittalVolume, image: spider.MidsagittalImage, boxes_mm: FloatArray | None, localiser: nn.Module
) -> ImageScore:
    """Find, name, and compare with the boxes.

    ``boxes_mm`` (discs, 4) are x0, y0, x1, y1 from the image's corner, bottom-up, the first one L5/S1.
    """
    found = detection.find(volume, localiser)
    spine = name_or_nothing(found)
    return ImageScore(
        name=image.name,
        patient=image.patient,
        weighting=image.weighting,
        counted=_count(volume, found),
        expected=image.disc_count,
        confidence=spine.level_confidence,
        doubts=spine.doubts,
        against_boxes=None if boxes_mm is None else compare(volume, boxes_mm, found, spine),
    )


def compare(volume: SagittalVolume, boxes_mm: FloatArray, found: Found, spine: Spine) -> BoxScore:
    """What was found and named against boxes as in ``score_image``."""
    centers = [_plane_mm(volume, disc.center_lps_mm) for disc in _of_the_lumbar_spine(found)]
    pairs = _in_boxes(centers, boxes_mm)
    names = _in_boxes([_plane_mm(volume, disc.center_lps_mm) for disc in spine.discs], boxes_mm)
    top = boxes_mm[:, 1].min()
    single = set(pairs.values())
    stray = [center for index, center in enumerate(centers) if index not in single]
    height = volume.voxels.shape[1] * volume.spacing_mm[1]
    inside = (boxes_mm[:, 1] > EDGE_MM) & (boxes_mm[:, 3] < height - EDGE_MM)
    middles = (boxes_mm[:, :2] + boxes_mm[:, 2:]) / 2
    return BoxScore(
        boxes=len(boxes_mm),
        found=len(pairs),
        missed_inside=sum(bool(whole) and box not in pairs for box, whole in enumerate(inside)),
        extra=sum(center[0] > top for center in stray),
        extra_above=sum(center[0] <= top for center in stray),
        named=len(names),
        named_right=sum(spine.discs[index].level == LEVELS_UPWARDS[box] for box, index in names.items()),
        unnamed_inside=sum(bool(whole) and box not in names for box, whole in enumerate(inside)),
        center_errors_mm=tuple(
            float(np.hypot(middles[box, 1] - centers[index][0], middles[box, 0] - centers[index][1]))
            for box, index in pairs.items()
        ),
    )


def boxes_of(root: Path, images: Iterable[spider.MidsagittalImage]) -> Mapping[str, FloatArray]:
    """Image name -> boxes in mm, for the images whose boxes give the levels."""
    boxes = spider.disc_boxes(root)
    return {
        image.name: boxes[image.name].boxes * ([image.column_spacing_mm, image.row_spacing_mm] * 2)
        for image in images
        if image.name in boxes and boxes[image.name].count_matches
    }


def name_or_nothing(found: Found) -> Spine:
    """The named spine; an empty one where naming refuses."""
    try:
        return labelling.name(found)
    except Unsuitable as refusal:
        return Spine(bodies=(), discs=(), doubts=(str(refusal),))


def cut_below(volume: SagittalVolume, row: int) -> SagittalVolume:
    """The image as if it ended above this row."""
    return replace(volume, voxels=np.ascontiguousarray(volume.voxels[:, :row]))


CUTS: Mapping[str, Callable[[FloatArray], float]] = {
    "through S1, 12 mm below L5/S1": lambda boxes: boxes[0, 3] + 12,
    "right below L5/S1": lambda boxes: boxes[0, 3] + 2,
    "through L5": lambda boxes: (boxes[0, 1] + boxes[1, 3]) / 2,
    "through L4": lambda boxes: (boxes[1, 1] + boxes[2, 3]) / 2,
}
"""Where the lower part of an image is taken away, mm from its top, given its boxes."""


def score_cut(
    where: str, volume: SagittalVolume, image: spider.MidsagittalImage, boxes_mm: FloatArray, localiser: nn.Module
) -> ImageScore:
    """The image as if it ended at one of the ``CUTS``; the boxes keep their levels."""
    bottom = CUTS[where](boxes_mm)
    return score_image(cut_below(volume, round(bottom / image.row_spacing_mm)), image, boxes_mm, localiser)


def rescaled(volume: SagittalVolume, factor: float) -> SagittalVolume:
    """The same voxels with a header that makes each pixel ``factor`` times as large."""
    affine = volume.voxel_to_patient.copy()
    affine[:3, 1:3] *= factor
    return replace(volume, voxel_to_patient=affine)


def score_stack(root: Path, patient: int, localiser: nn.Module) -> StackScore:
    """Overlap with SPIDER's mask on its own grid, over the slices that were looked at."""
    volume, mask = upright(spider.read_stack(root, patient)), spider.read_stack_mask(root, patient)
    marks = detection.mark(volume, localiser)
    at = [(np.arange(n) + 0.5) / step - 0.5 for n, step in zip(mask.shape[1:], marks.voxels_per_pixel, strict=True)]
    grid = np.stack(np.meshgrid(*at, indexing="ij"))
    scores = {}
    for tissue, value in (
        (Tissue.DISC, spider.MaskValue.DISC),
        (Tissue.VERTEBRA, spider.MaskValue.VERTEBRA),
        (Tissue.CANAL, spider.MaskValue.CANAL),
    ):
        overlap = total = 0
        for place, index in enumerate(marks.slice_indices):
            there = mask[index] == value
            said = ndimage.map_coordinates(marks.probabilities[place, tissue], grid, order=1, mode="nearest") > 0.5
            overlap += 2 * int((there & said).sum())
            total += int(there.sum()) + int(said.sum())
        scores[tissue] = overlap / total
    return StackScore(patient=patient, dice=scores)


def _count(volume: SagittalVolume, found: Found) -> int:
    kept = _of_the_lumbar_spine(found)
    return sum(_plane_mm(volume, disc.center_lps_mm)[0] >= COUNTED_MM for disc in kept)


def _of_the_lumbar_spine(found: Found) -> tuple[FoundDisc, ...]:
    """Without what naming takes for an S1/S2 remnant: nobody is shown that as a disc."""
    return found.discs[: labelling.namings(found.discs)[0].last + 1] if found.discs else ()


def _in_boxes(centers: list[tuple[float, float]], boxes_mm: FloatArray) -> dict[int, int]:
    """Box -> index of the centre inside it, the nearest to its middle; a centre belongs to one box only."""
    middles = (boxes_mm[:, :2] + boxes_mm[:, 2:]) / 2
    nearest: dict[int, tuple[float, int]] = {}
    for index, (row, column) in enumerate(centers):
        inside = np.flatnonzero(((boxes_mm[:, :2] <= [column, row]) & ([column, row] <= boxes_mm[:, 2:])).all(axis=1))
        if not len(inside):
            continue
        away = np.hypot(*(middles[inside] - [column, row]).T)
        box, distance = int(inside[np.argmin(away)]), float(away.min())
        if box not in nearest or distance < nearest[box][0]:
            nearest[box] = distance, index
    return {box: index for box, (_, index) in nearest.items()}


def _plane_mm(volume: SagittalVolume, position_lps_mm: FloatArray) -> tuple[float, float]:
    """Row and column in mm from the first pixel's outer edge, as boxes are."""
    _, row, column = volume.to_voxel(position_lps_mm)
    return (float(row) + 0.5) * volume.spacing_mm[1], (float(column) + 0.5) * volume.spacing_mm[2]
