"""Finds the column of discs on one plane of marks: candidates, the best upward chain, repair of its gaps.

Pure geometry on probabilities; knows nothing of slices, patients or levels. All lengths in mm, points (row, column).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.marks import Plane, Tissue
from inference.volume import FloatArray

SURE = 0.5
FAINT = 0.15
"""A disc missing from the chain is looked for at this lower threshold, only where the chain says it must be."""
LEAST_AREA_MM2 = 45.0
LEAST_WIDTH_MM = 14.0
NEAREST_MM, FURTHEST_MM = 14.0, 85.0
"""Distance between centres of discs in a chain; the far end leaves room for one or two that were missed."""
GAP = 1.55
"""Two discs further apart than this many times the median have a missed one between them."""
LEAST_STEP = 0.5
"""A faint disc between two others is nearer to neither than this many times the median step."""
LEAST_DEPTH = 0.6
"""A faint disc reaches at least so far front to back, in the median width of the chain's discs. A line in a broken
body, or its vein, does not."""
BODY_DEPTH_MM = (5.0, 18.0)
"""How far beneath a disc its lower neighbour is looked at: behind the endplate, before the next disc."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A patch of pixels that may be a disc."""

    center_mm: FloatArray
    """(2,) mean, weighted by probability."""
    along: FloatArray
    """(2,) unit vector front to back."""
    width_mm: float
    thickness_mm: float
    area_mm2: float
    confidence: float
    """Mean probability of its pixels."""

    @property
    def down(self) -> FloatArray:
        """(2,) unit vector footwards, perpendicular to ``along``."""
        return np.array([self.along[1], -self.along[0]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Beneath:
    """What lies where the body beneath a disc would be."""

    sacrum: float
    vertebra: float
    in_view: float


def discs_of(plane: Plane) -> tuple[Candidate, ...]:
    """The discs of the spine on this plane, head to foot; empty where there is no chain of them."""
    chain = longest_chain(candidates(plane, SURE))
    if len(chain) < 2:
        return tuple(chain)
    chain = _faint_between(plane, _gaps_filled(plane, _nothing_far_below_s1(plane, chain)))
    return tuple(_head_reached(plane, _foot_reached(plane, chain)))


def candidates(plane: Plane, threshold: float) -> list[Candidate]:
    """Connected patches of disc above ``threshold`` that are large and wide enough, head to foot."""
    probability = plane.probabilities[Tissue.DISC]
    components, _ = ndimage.label(probability > threshold)
    found = []
    for index, box in enumerate(ndimage.find_objects(components)):
        here = components[box] == index + 1
        pixels = np.argwhere(here) + np.array([box[0].start, box[1].start])
        candidate = _candidate(pixels * plane.pixel_mm, probability[box][here], plane)
        if candidate is not None:
            found.append(candidate)
    return sorted(found, key=lambda each: float(each.center_mm[0]))


def longest_chain(nodes: list[Candidate]) -> list[Candidate]:
    """The chain of candidates, head to foot, with the best sum of sizes and links (dynamic programming)."""
    best: list[tuple[float, int | None]] = []
    for lower_index, lower in enumerate(nodes):
        score, before = _worth(lower), None
        for upper_index in range(lower_index):
            link = _link(nodes[upper_index], lower)
            if link is not None and best[upper_index][0] + link + _worth(lower) > score:
                score, before = best[upper_index][0] + link + _worth(lower), upper_index
        best.append((score, before))
    if not best:
        return []
    chain, at = [], max(range(len(best)), key=lambda index: best[index][0])
    step: int | None = at
    while step is not None:
        chain.append(nodes[step])
        step = best[step][1]
    return chain[::-1]


def beneath(plane: Plane, disc: Candidate) -> Beneath:
    """What the marks say of the body place beneath a disc."""
    across = np.linspace(-0.3, 0.3, 13) * disc.width_mm
    depth = np.linspace(*BODY_DEPTH_MM, 14) + disc.thickness_mm / 2
    points = disc.center_mm + across[:, None, None] * disc.along + depth[None, :, None] * disc.down
    inside = plane.inside(points)
    seen = max(int(inside.sum()), 1)
    return Beneath(
        sacrum=float((plane.sample(Tissue.SACRUM, points) * inside).sum() / seen),
        vertebra=float((plane.sample(Tissue.VERTEBRA, points) * inside).sum() / seen),
        in_view=float(inside.mean()),
    )


def _candidate(
    points_mm: FloatArray, probability: NDArray[np.float32], plane: Plane, least: float = 1.0
) -> Candidate | None:
    area = len(points_mm) * float(np.prod(plane.pixel_mm))
    if area < LEAST_AREA_MM2 * least:
        return None
    weight = np.asarray(probability, np.float64)
    center = np.average(points_mm, axis=0, weights=weight)
    _, vectors = np.linalg.eigh(np.cov((points_mm - center).T, aweights=weight))
    along = vectors[:, 1] * (1 if vectors[1, 1] >= 0 else -1)
    offset = points_mm - center
    width = float(np.ptp(np.percentile(offset @ along, [1, 99])) + plane.pixel_mm.mean())
    if width < LEAST_WIDTH_MM * least:
        return None
    return Candidate(
        center_mm=center,
        along=along,
        width_mm=width,
        thickness_mm=area / width,
        area_mm2=area,
        confidence=float(weight.mean()),
    )


def _worth(node: Candidate) -> float:
    return min(node.area_mm2 / 200, 1.0) * node.confidence


def _link(upper: Candidate, lower: Candidate) -> float | None:
    """Worth of having two discs follow each other; None where they cannot."""
    step = lower.center_mm - upper.center_mm
    distance = float(np.linalg.norm(step))
    if not NEAREST_MM <= distance <= FURTHEST_MM:
        return None
    direction = step / distance
    normal = upper.down + lower.down
    length = float(np.linalg.norm(normal))
    if length < 1e-6 or float(direction @ normal) / length < 0.75:  # within 41 degrees of the discs' mean normal
        return None
    return 1.0 - max(0.0, distance - 45.0) / 40.0


def _nothing_far_below_s1(plane: Plane, chain: list[Candidate]) -> list[Candidate]:
    """The chain without what follows a gap beneath S1: no disc was missed there, and what follows is none.

    An S1/S2 remnant lies closer: less than a usual step beneath L5/S1.
    """
    steps = [float(np.linalg.norm(b.center_mm - a.center_mm)) for a, b in pairwise(chain)]
    usual = float(np.median(steps))
    for index, step in enumerate(steps):
        below = beneath(plane, chain[index])
        if step > GAP * usual and below.sacrum > 0.5 > below.vertebra:
            return chain[: index + 1]
    return chain


def _gaps_filled(plane: Plane, chain: list[Candidate]) -> list[Candidate]:
    steps = [float(np.linalg.norm(b.center_mm - a.center_mm)) for a, b in pairwise(chain)]
    usual = float(np.median(steps))
    filled = [chain[0]]
    for step, lower in zip(steps, chain[1:], strict=True):
        if step > GAP * usual and len(chain) > 2:
            missing = round(step / usual) - 1
            for share in range(1, missing + 1):
                place = chain_point(filled[-1], lower, 1 / (missing + 2 - share))
                faint = _faint_disc(plane, place, radius_mm=0.4 * usual)
                if faint is not None:
                    filled.append(faint)
        filled.append(lower)
    return filled


def _faint_between(plane: Plane, chain: list[Candidate]) -> list[Candidate]:
    """Add discs that are too faint by themselves, but lie whole between two discs of the chain that stand apart.

    Where the spine leaves the slice, bodies are wedged and discs blurred: the step over a missed one is then hardly
    longer than the steps elsewhere, and all names above it would be one too high.
    """
    usual = float(np.median([np.linalg.norm(b.center_mm - a.center_mm) for a, b in pairwise(chain)]))
    depth = LEAST_DEPTH * float(np.median([disc.width_mm for disc in chain]))
    wide = [each for each in candidates(plane, FAINT) if each.width_mm >= depth]
    result = [chain[0]]
    for upper, lower in pairwise(chain):
        if np.linalg.norm(lower.center_mm - upper.center_mm) > 2 * LEAST_STEP * usual:
            between = [
                each
                for each in wide
                if _link(upper, each) is not None
                and _link(each, lower) is not None
                and min(np.linalg.norm(each.center_mm - other.center_mm) for other in (upper, lower))
                >= LEAST_STEP * usual
            ]
            result += [max(between, key=lambda each: each.area_mm2 * each.confidence)] if between else []
        result.append(lower)
    return result


def _head_reached(plane: Plane, chain: list[Candidate]) -> list[Candidate]:
    """Add the uppermost disc where it was too faint: one step above the first, and a vertebra between them."""
    first, second = chain[0], chain[1]
    step = float(np.linalg.norm(second.center_mm - first.center_mm))
    faint = _faint_disc(plane, first.center_mm - step * first.down, radius_mm=0.3 * step)
    if faint is None or _link(faint, first) is None or faint.width_mm < LEAST_DEPTH * first.width_mm:
        return chain
    return [faint, *chain] if beneath(plane, faint).vertebra > 0.5 else chain


def chain_point(upper: Candidate, lower: Candidate, share: float) -> FloatArray:
    """(2,) point on the straight line between two discs."""
    point: FloatArray = upper.center_mm + share * (lower.center_mm - upper.center_mm)
    return point


def _foot_reached(plane: Plane, chain: list[Candidate]) -> list[Candidate]:
    """Add L5/S1 where it was too faint: a vertebra lies beneath the last disc, and S1 beneath that."""
    last, previous = chain[-1], chain[-2]
    below = beneath(plane, last)
    if below.vertebra < 0.5 or below.sacrum > below.vertebra:
        return chain
    step = float(np.linalg.norm(last.center_mm - previous.center_mm))
    faint = _faint_disc(plane, last.center_mm + step * last.down, radius_mm=0.45 * step)
    return [*chain, faint] if faint is not None and _link(last, faint) is not None else chain


def _faint_disc(plane: Plane, place: FloatArray, radius_mm: float) -> Candidate | None:
    """The best patch above ``FAINT`` whose centre lies within ``radius_mm`` of ``place``."""
    close = [
        each
        for each in candidates(plane, FAINT)
        if np.linalg.norm(each.center_mm - place) < radius_mm and each.thickness_mm < 25
    ]
    return max(close, key=lambda each: each.area_mm2 * each.confidence) if close else None
