"""From discs traced on planes of marks to discs and bodies in the patient: what detection hands over.

No network, no levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from inference.anatomy import FoundBody, FoundDisc
from inference.chain import Beneath, Candidate
from inference.marks import Marks, Plane, Tissue
from inference.outlines import TracedDisc, endplate, trace_body, trace_canal
from inference.volume import FloatArray, SagittalVolume

S1_TAPER = (0.3, 0.05)
"""S1 is narrower at its lower end by so much of its depth, at the front and at the back (read off 25 images)."""
EDGE_MM = 1.5
"""A disc whose outline comes so near to the edge of the image is cut off by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenDisc:
    """A disc of the chain with its outline on its own mid-slice."""

    candidate: Candidate
    place: int
    """Place of the mid-slice among the marked slices."""
    traced: TracedDisc
    below: Beneath


def found_disc(seen: SagittalVolume, marks: Marks, disc: SeenDisc) -> FoundDisc:
    traced, below, index = disc.traced, disc.below, marks.slice_indices[disc.place]
    plane = marks.plane(disc.place)
    canal = trace_canal(plane, traced)
    outline = marks.to_patient(seen, index, traced.outline_mm)
    ends = marks.to_patient(seen, index, np.stack((traced.anterior_mm, traced.posterior_mm)))
    return FoundDisc(
        slice_index=index,
        outline_lps_mm=outline,
        center_lps_mm=ends.mean(axis=0),
        anterior_lps_mm=ends[0],
        posterior_lps_mm=ends[1],
        canal_lps_mm=None if canal is None else marks.to_patient(seen, index, canal),
        complete=bool(np.all(plane.inside(traced.outline_mm + EDGE_MM) & plane.inside(traced.outline_mm - EDGE_MM))),
        confidence=disc.candidate.confidence,
        sacrum_beneath=below.sacrum,
        vertebra_beneath=below.vertebra,
        beneath_in_view=below.in_view,
    )


def found_bodies(seen: SagittalVolume, marks: Marks, found: Sequence[SeenDisc]) -> tuple[FoundBody | None, ...]:
    """Bodies between neighbouring discs, and the ones above the first and beneath the last where seen whole."""
    if not found:
        return ()
    bodies = [_end_body(seen, marks, found[0], beneath_it=False)]
    for upper, lower in pairwise(found):
        place = round((upper.place + lower.place) / 2)
        corners = trace_body(marks.plane(place), upper.traced, lower.traced)
        bodies.append(FoundBody(corners_lps_mm=marks.to_patient(seen, marks.slice_indices[place], corners)))
    bodies.append(_end_body(seen, marks, found[-1], beneath_it=True))
    return tuple(bodies)


def _end_body(seen: SagittalVolume, marks: Marks, end: SeenDisc, *, beneath_it: bool) -> FoundBody | None:
    """The body above the first disc or beneath the last: its far corners lie where its marks end.

    None where the image ends first, or where nothing is marked there. S1 tapers and has a remnant beneath: its far
    corners are estimates: one marked depth along the disc's normal, drawn in by ``S1_TAPER``.
    """
    plane, traced = marks.plane(end.place), end.traced
    sacral = beneath_it and end.below.sacrum > end.below.vertebra
    near = endplate(plane, traced, beneath=beneath_it, tissue=Tissue.SACRUM if sacral else Tissue.VERTEBRA)
    away = np.array([traced.along[1], -traced.along[0]]) * (1 if beneath_it else -1)
    depth = _depth(plane, near.mean(axis=0), away, Tissue.SACRUM if sacral else Tissue.VERTEBRA)
    if depth is None:
        return None
    far = near + depth * away
    if sacral:
        far = far + np.array(S1_TAPER)[:, None] * (far[::-1] - far)
    corners = (near[0], near[1], far[1], far[0]) if beneath_it else (far[0], far[1], near[1], near[0])
    return FoundBody(corners_lps_mm=marks.to_patient(seen, marks.slice_indices[end.place], np.stack(corners)))


def _depth(plane: Plane, start: FloatArray, away: FloatArray, tissue: Tissue) -> float | None:
    """How far the tissue reaches from its endplate, 15-50 mm; None where it does not, or runs out of the image."""
    steps = np.arange(2.0, 50.0, 0.5)
    points = start + steps[:, None] * away
    ended = np.flatnonzero(plane.sample(tissue, points) < 0.5)
    if not len(ended):
        return None
    depth = float(steps[ended[0]])
    margin = plane.inside(start + (depth + 2.0) * away)
    return depth if depth > 15.0 and bool(margin) else None
