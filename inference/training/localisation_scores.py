"""How well the localiser finds and names discs on patients it was not trained on.

python -m inference.training.localisation_scores --data ../shared/data/spider
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from tqdm import tqdm

from inference import detection, labelling
from inference.anatomy import DiscLevel, Spine
from inference.marks import Tissue
from inference.training import spider
from inference.training.localisation import held_out_patients
from inference.volume import FloatArray, SagittalVolume, Unsuitable, upright
from inference.weights import load_localiser

LEVELS_UPWARDS = tuple(reversed(DiscLevel))
SURE = 0.5
"""A wrong name is confident from this level confidence on."""
EDGE_MM = 3.0
"""A box that comes so near to the edge of the image holds a disc that is cut off, or nearly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageScore:
    """One image against its disc boxes."""

    patient: int
    weighting: str
    boxes: int
    found: int
    """Boxes with a named disc's centre inside."""
    missed_inside: int
    """Boxes without one that are not at the edge of the image."""
    extra: int
    """Named discs in no box, and not above the highest box."""
    named_right: int
    """Boxes whose disc has the right level."""
    confidently_wrong: int
    center_errors_mm: tuple[float, ...]


def score_image(
    volume: SagittalVolume, boxes_mm: FloatArray, spine: Spine, image: spider.MidsagittalImage
) -> ImageScore:
    """Boxes (discs, 4) are x0, y0, x1, y1 in mm from the first pixel, bottom-up, the first one L5/S1."""
    centers = [_plane_mm(volume, disc.center_lps_mm) for disc in spine.discs]
    pairs: dict[int, int] = {}
    for index, (row, column) in enumerate(centers):
        inside = (boxes_mm[:, :2] <= [column, row]).all(1) & (boxes_mm[:, 2:] >= [column, row]).all(1)
        if inside.any():
            pairs.setdefault(int(np.argmax(inside)), index)
    top = boxes_mm[:, 1].min()
    matched = set(pairs.values())
    height = volume.voxels.shape[1] * volume.spacing_mm[1]
    inside_image = (boxes_mm[:, 1] > EDGE_MM) & (boxes_mm[:, 3] < height - EDGE_MM)
    middles = (boxes_mm[:, :2] + boxes_mm[:, 2:]) / 2
    right = {box for box, index in pairs.items() if spine.discs[index].level == LEVELS_UPWARDS[box]}
    return ImageScore(
        patient=image.patient,
        weighting=image.weighting,
        boxes=len(boxes_mm),
        found=len(pairs),
        missed_inside=sum(box not in pairs and bool(inside_image[box]) for box in range(len(boxes_mm))),
        extra=sum(index not in matched and center[0] > top for index, center in enumerate(centers)),
        named_right=len(right),
        confidently_wrong=sum(
            spine.discs[index].level_confidence >= SURE for box, index in pairs.items() if box not in right
        ),
        center_errors_mm=tuple(
            float(np.hypot(middles[box, 1] - centers[index][0], middles[box, 0] - centers[index][1]))
            for box, index in pairs.items()
        ),
    )


def boxed_images(root: Path, patients: Iterable[int]) -> tuple[tuple[spider.MidsagittalImage, FloatArray], ...]:
    """Images of these patients whose boxes give the levels, with the boxes in mm."""
    chosen, boxes = set(patients), spider.disc_boxes(root)
    return tuple(
        (image, boxes[image.name].boxes * ([image.column_spacing_mm, image.row_spacing_mm] * 2))
        for image in spider.midsagittal_images(root)
        if image.patient in chosen and image.name in boxes and boxes[image.name].count_matches
    )


def name_or_nothing(volume: SagittalVolume, localiser: nn.Module) -> Spine:
    """The named spine; an empty one where naming refuses."""
    try:
        return labelling.name(detection.find(volume, localiser))
    except Unsuitable:
        return Spine(bodies=(), discs=(), doubts=())


def cut_below(volume: SagittalVolume, row: int) -> SagittalVolume:
    """The image as if it ended above this row."""
    return replace(volume, voxels=np.ascontiguousarray(volume.voxels[:, :row]))


def cut_scores(root: Path, patients: Iterable[int], localiser: nn.Module) -> tuple[tuple[str, int, int, int], ...]:
    """What happens to the names when S1, or L5/S1, or L5 too is cut off: (where, images, wrong, confidently wrong)."""
    places: Mapping[str, Callable[[FloatArray], float]] = {
        "through S1, 12 mm below L5/S1": lambda boxes: boxes[0, 3] + 12,
        "right below L5/S1": lambda boxes: boxes[0, 3] + 2,
        "through L5": lambda boxes: (boxes[0, 1] + boxes[1, 3]) / 2,
        "through L4": lambda boxes: (boxes[1, 1] + boxes[2, 3]) / 2,
    }
    rows = []
    for where, bottom in places.items():
        wrong = sure = images = 0
        for image, boxes in boxed_images(root, patients):
            volume = spider.read_midsagittal(root, image)
            short = cut_below(volume, round(bottom(boxes) / image.row_spacing_mm))
            spine = name_or_nothing(short, localiser)
            score = score_image(short, boxes, spine, image)
            images += 1
            wrong += score.named_right < score.found
            sure += score.confidently_wrong > 0
        rows.append((where, images, wrong, sure))
    return tuple(rows)


def dice(root: Path, patient: int, localiser: nn.Module) -> Mapping[Tissue, float]:
    """Overlap with SPIDER's mask on its own grid, over the slices that were looked at."""
    volume, mask = upright(spider.read_stack(root, patient)), spider.read_stack_mask(root, patient)
    marks = detection.mark(volume, localiser)
    scores = {}
    values = ((Tissue.DISC, 29), (Tissue.VERTEBRA, 76), (Tissue.CANAL, 150))
    at = [(np.arange(n) + 0.5) / step - 0.5 for n, step in zip(mask.shape[1:], marks.voxels_per_pixel, strict=True)]
    grid = np.stack(np.meshgrid(*at, indexing="ij"))
    for tissue, value in values:
        overlap = total = 0
        for place, index in enumerate(marks.slice_indices):
            there = mask[index] == value
            said = ndimage.map_coordinates(marks.probabilities[place, tissue], grid, order=1, mode="nearest") > 0.5
            overlap += 2 * int((there & said).sum())
            total += int(there.sum()) + int(said.sum())
        scores[tissue] = overlap / total
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures as a table."""
    parser = argparse.ArgumentParser(description="Score the shipped localiser on the patients held out.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    localiser, patients = load_localiser("cpu"), held_out_patients(options.data)
    scores = []
    for image, boxes in tqdm(boxed_images(options.data, patients), desc="boxes"):
        volume = spider.read_midsagittal(options.data, image)
        scores.append(score_image(volume, boxes, name_or_nothing(volume, localiser), image))
    print("\n".join(_lines(scores)))
    print("\n".join(_count_lines(options.data, patients, localiser)))
    for where, images, wrong, sure in cut_scores(options.data, patients, localiser):
        print(f"image ends {where}: {images} images, {wrong} named wrong, {sure} of them confidently")
    stacks = [each for each in spider.stack_patients(options.data) if each in patients]
    scored = [dice(options.data, each, localiser) for each in tqdm(stacks, desc="stacks")]
    for tissue in (Tissue.DISC, Tissue.VERTEBRA, Tissue.CANAL):
        values = [each[tissue] for each in scored]
        span = f"{min(values):.3f}-{max(values):.3f}, {len(values)} stacks"
        print(f"Dice {tissue.name.lower()}: {np.mean(values):.3f} ({span})")


def _lines(scores: Sequence[ImageScore]) -> list[str]:
    lines = []
    for weighting in ("t2", "t1", "t2_SPACE"):
        chosen = [score for score in scores if score.weighting == weighting]
        boxes, found = sum(s.boxes for s in chosen), sum(s.found for s in chosen)
        extra, right = sum(s.extra for s in chosen), sum(s.named_right for s in chosen)
        errors = np.array([error for s in chosen for error in s.center_errors_mm])
        lines.append(
            f"{weighting}: {len(chosen)} images, {boxes} discs: recall {found / boxes:.3f} (missed "
            f"away from the edge: {sum(s.missed_inside for s in chosen)}), precision "
            f"{found / max(found + extra, 1):.3f}, centre error {np.median(errors):.1f} mm median "
            f"{np.percentile(errors, 95):.1f} mm 95th percentile, level right {right / boxes:.3f}; "
            f"images with a wrong level {sum(s.named_right < s.found for s in chosen)}, "
            f"of them confidently {sum(s.confidently_wrong > 0 for s in chosen)}"
        )
    return lines


def _count_lines(root: Path, patients: Iterable[int], localiser: nn.Module) -> list[str]:
    chosen = set(patients)
    lines = []
    for weighting in ("t2", "t1", "t2_SPACE"):
        images = [
            image
            for image in spider.midsagittal_images(root)
            if image.patient in chosen and image.weighting == weighting and image.disc_count is not None
        ]
        off = []
        for image in images:
            found = detection.find(spider.read_midsagittal(root, image), localiser)
            off.append(len(found.discs) - (image.disc_count or 0))
        exact, near = np.mean([each == 0 for each in off]), np.mean([abs(each) <= 1 for each in off])
        lines.append(f"{weighting}: count of discs exact on {exact:.2f}, within one on {near:.2f} of {len(off)} images")
    return lines


def _plane_mm(volume: SagittalVolume, position_lps_mm: FloatArray) -> tuple[float, float]:
    """Row and column in mm from the first pixel's outer edge, as boxes are."""
    _, row, column = volume.to_voxel(position_lps_mm)
    return (float(row) + 0.5) * volume.spacing_mm[1], (float(column) + 0.5) * volume.spacing_mm[2]


if __name__ == "__main__":
    main()
