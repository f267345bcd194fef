"""Names the discs that were found, from the sacrum upwards, and says how sure the names are.

Every disc that could be L5/S1 is weighed by what was seen beneath it: S1, or another lumbar vertebra. The case that
L5/S1 lies below the image competes with them. Probabilities of these cases, after Bayes, are the level confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from inference.anatomy import Disc, DiscLevel, Found, FoundDisc, Spine, Vertebra, VertebralBody
from inference.volume import FloatArray, Unsuitable

LEVELS = tuple(DiscLevel)
LEAST_DISCS = 3
"""Fewer discs in a row are not taken for a lumbar spine."""
LEAST_DISC_CONFIDENCE = 0.6
REMNANT = 0.05
"""Prior: share of spines where a disc-like S1/S2 remnant is found beneath L5/S1."""
CUT_OFF = 0.04
"""Prior: share of lumbar studies whose image ends above or in S1."""
CUT_OFF_BELOW = (0.45, 0.28, 0.17, 0.10)
"""Prior, where the image is cut off: the lowest disc seen is L5/S1, L4/L5, L3/L4, L2/L3."""
STEEPNESS = 10.0
"""Log-odds of S1 beneath a disc per unit by which its marks lead over a lumbar vertebra's: a faint or mixed mark, as a
transitional vertebra gives, decides little."""
L5_S1_DEPTH, REMNANT_DEPTH = (0.99, 0.10), (0.65, 0.12)
"""Mean and spread of the depth of L5/S1, and of an S1/S2 remnant, as a share of the discs' above it."""
DEPTH_ODDS = (0.25, 30.0)
"""The depth alone is never trusted further; a lumbarised S1 may have a disc of full depth."""
BLUR = 0.003
"""The marks beneath a disc are never trusted to more than 1 - BLUR."""
TRANSITIONAL = 0.03
"""Share of spines with a lumbosacral transition that no lumbar image can number: no name is surer than the rest."""
PLAUSIBLE_DEPTH_MM = (18.0, 60.0)
"""Median depth of the discs of a spine. Beyond it, it is no spine, or the pixel size in the header is wrong."""
CONVINCING_DISCS = 5
"""So many discs in a row are a spine whatever their size."""
MOST_TRANSITIONAL = 0.45
"""Whatever the image shows, the usual count from the sacrum stays the likelier one."""
USUAL_CHANGE, TRANSITIONAL_CHANGE = (1.83, 0.20), (1.20, 0.30)
"""Mean and spread of how much S1's lead over a lumbar vertebra, -1 to 1, rises from beneath L4/L5 to beneath L5/S1."""
USUAL_DEPTH, TRANSITIONAL_DEPTH = (0.97, 0.10), (0.75, 0.12)
"""Mean and spread of the depth of what is named L5/S1, as a share of the median of the three discs above it."""
CHANGE_ODDS, SHALLOW_ODDS = (0.1, 30.0), (0.25, 30.0)
"""Neither sign is ever trusted further: a lumbarised S1 may carry a disc of full depth."""
DOUBTFUL = 0.9
"""Below this level confidence a reader is told."""
GAP = 1.55
"""Neighbouring discs further apart than this many times the median have one or more missed between them."""
MISSED = 0.6
"""Level confidence above a gap is multiplied by this for every disc that was missed there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """One way to name the discs."""

    last: int
    """Index of the lowest disc that belongs to the lumbar spine; those beneath are remnants."""
    unseen: int
    """How many levels lie below ``last`` that were not found; 0 where ``last`` is L5/S1."""
    probability: float


def name(found: Found) -> Spine:
    """Levels for the discs found, lowest first decided.

    Raises Unsuitable where fewer than ``LEAST_DISCS`` discs stand in a plausible row.
    """
    _refuse_what_is_no_lumbar_spine(found)
    best = namings(found.discs)[0]
    discs = found.discs[: best.last + 1]
    skipped = _missed_between(discs)
    levels = _levels(len(discs), skipped, best)
    first = next(index for index, level in enumerate(levels) if level is not None)
    transitional = _transitional(found.discs, best)
    named = tuple(
        _named(disc, level, (1 - transitional) * best.probability * MISSED ** sum(skipped[index:]))
        for index, (disc, level) in enumerate(zip(discs, levels, strict=True))
        if level is not None and disc.complete
    )
    bodies = _bodies(found, discs, levels, skipped, first)
    doubts = _doubts(found, best, (1 - transitional) * best.probability, skipped, first)
    return Spine(bodies=bodies, discs=named, doubts=doubts)


def namings(discs: Sequence[FoundDisc]) -> tuple[Naming, ...]:
    """Every way to name the discs with its probability, the likeliest first; the probabilities sum to 1.

    A disc that is L5/S1 has S1 beneath, one above it a vertebra; one beneath it is a remnant and says nothing. That
    the image ends right beneath the lowest disc speaks for an image that was cut off anywhere, not for L5/S1.
    """
    on_s1 = [_sacral_share(disc) for disc in discs]
    lowest, view = len(discs) - 1, discs[-1].beneath_in_view
    lumbar = float(np.prod([1 - share for share in on_s1[:lowest]]))
    whole = (1 - CUT_OFF) * (1 - REMNANT) * view + CUT_OFF * CUT_OFF_BELOW[0] * (1 - view)
    ways = [(lowest, 0, whole * lumbar * on_s1[lowest])]
    for unseen, share in enumerate(CUT_OFF_BELOW[1:], start=1):
        ways.append((lowest, unseen, CUT_OFF * share * lumbar * (1 - on_s1[lowest])))
    if len(discs) > LEAST_DISCS:
        above = float(np.prod([1 - share for share in on_s1[: lowest - 1]]))
        ways.append((lowest - 1, 0, (1 - CUT_OFF) * REMNANT * above * on_s1[lowest - 1] * _remnant_odds(discs)))
    total = sum(weight for _, _, weight in ways)
    return tuple(
        Naming(last=last, unseen=unseen, probability=weight / total)
        for last, unseen, weight in sorted(ways, key=lambda way: -way[2])
    )


def _sacral_share(disc: FoundDisc) -> float:
    """How likely it is S1, not a lumbar vertebra, that lies beneath: 0.5 where nothing is seen there."""
    return float(np.clip(1 / (1 + np.exp(-STEEPNESS * _lead(disc))), BLUR, 1 - BLUR))


def _lead(disc: FoundDisc) -> float:
    """By how much S1 leads over a lumbar vertebra beneath the disc, -1 to 1."""
    return disc.beneath_in_view * (disc.sacrum_beneath - disc.vertebra_beneath)


def _transitional(discs: Sequence[FoundDisc], best: Naming) -> float:
    """How likely the spine has a lumbosacral transition, so that another reader may count otherwise.

    Two signs: what lies beneath changes little from L4/L5 to L5/S1, and L5/S1 is less deep than the discs above.
    Without an L5/S1 only the share of such spines is known.
    """
    if best.unseen or best.last == 0:
        return TRANSITIONAL
    change = min(_lead(discs[best.last]) - _lead(discs[best.last - 1]), USUAL_CHANGE[0])
    odds = TRANSITIONAL / (1 - TRANSITIONAL) * _times_likelier(change, TRANSITIONAL_CHANGE, USUAL_CHANGE, CHANGE_ODDS)
    if discs[best.last].complete and best.last >= LEAST_DISCS:
        share = _share_of_depth(discs[: best.last + 1])
        odds *= _times_likelier(share, TRANSITIONAL_DEPTH, USUAL_DEPTH, SHALLOW_ODDS)
    return float(np.clip(odds / (1 + odds), TRANSITIONAL, MOST_TRANSITIONAL))


def _times_likelier(
    value: float, one: tuple[float, float], other: tuple[float, float], bounds: tuple[float, float]
) -> float:
    """How much likelier the value is under ``one`` (mean and spread) than under ``other``, within bounds."""
    logs = [-0.5 * ((value - mean) / spread) ** 2 - np.log(spread) for mean, spread in (one, other)]
    return float(np.clip(np.exp(logs[0] - logs[1]), *bounds))


def _share_of_depth(discs: Sequence[FoundDisc]) -> float:
    """Depth of the lowest disc as a share of the median of the three above it."""
    depths = [float(np.linalg.norm(disc.posterior_lps_mm - disc.anterior_lps_mm)) for disc in discs[-4:]]
    return depths[-1] / float(np.median(depths[:-1]))


def _remnant_odds(discs: Sequence[FoundDisc]) -> float:
    """How much likelier the depth of the lowest disc, beside the three above it, is for a remnant than for L5/S1."""
    if len(discs) <= LEAST_DISCS or not discs[-1].complete:
        return 1.0
    return _times_likelier(_share_of_depth(discs), REMNANT_DEPTH, L5_S1_DEPTH, DEPTH_ODDS)


def _refuse_what_is_no_lumbar_spine(found: Found) -> None:
    discs = found.discs
    if len(discs) < LEAST_DISCS:
        raise Unsuitable(
            f"No lumbar spine was found: {len(discs)} disc(s) in a row, at least {LEAST_DISCS} are needed."
        )
    confidence = float(np.median([disc.confidence for disc in discs]))
    if confidence < LEAST_DISC_CONFIDENCE:
        raise Unsuitable(f"No lumbar spine was found: what looks like discs is unclear (confidence {confidence:.2f}).")
    depth_mm = _depth_mm(discs)
    if len(discs) < CONVINCING_DISCS and not PLAUSIBLE_DEPTH_MM[0] <= depth_mm <= PLAUSIBLE_DEPTH_MM[1]:
        raise Unsuitable(f"No lumbar spine was found: the discs would be {depth_mm:.0f} mm deep (20-55 mm is usual).")


def _depth_mm(discs: Sequence[FoundDisc]) -> float:
    """Median distance from the front to the back end of the discs."""
    return float(np.median([np.linalg.norm(disc.posterior_lps_mm - disc.anterior_lps_mm) for disc in discs]))


def _missed_between(discs: Sequence[FoundDisc]) -> tuple[int, ...]:
    """For each disc, how many discs were missed between it and the next one below; 0 for the last."""
    steps = [float(np.linalg.norm(b.center_lps_mm - a.center_lps_mm)) for a, b in pairwise(discs)]
    if len(steps) < 2:
        return (0,) * len(discs)
    usual = float(np.median(steps))
    return tuple(round(step / usual) - 1 if step > GAP * usual else 0 for step in (*steps, 0.0))


def _levels(count: int, skipped: Sequence[int], best: Naming) -> list[DiscLevel | None]:
    """Head to foot; None for discs above the highest level that has a name."""
    place = len(LEVELS) - 1 - best.unseen
    levels: list[DiscLevel | None] = []
    for index in reversed(range(count)):
        place -= skipped[index]
        levels.append(LEVELS[place] if place >= 0 else None)
        place -= 1
    return levels[::-1]


def _named(disc: FoundDisc, level: DiscLevel, confidence: float) -> Disc:
    return Disc(
        level=level,
        level_confidence=round(float(confidence), 3),
        slice_index=disc.slice_index,
        outline_lps_mm=disc.outline_lps_mm,
        center_lps_mm=disc.center_lps_mm,
        anterior_lps_mm=disc.anterior_lps_mm,
        posterior_lps_mm=disc.posterior_lps_mm,
        canal_lps_mm=disc.canal_lps_mm,
    )


def _bodies(
    found: Found,
    discs: Sequence[FoundDisc],
    levels: Sequence[DiscLevel | None],
    skipped: Sequence[int],
    first: int,
) -> tuple[VertebralBody, ...]:
    """Bodies that border on a named disc; one that spans a missed disc is two bodies and is left out."""
    bodies: list[VertebralBody] = []
    for index in range(first, len(discs) + 1):
        body = found.bodies[index]
        across = index > 0 and index < len(discs) and skipped[index - 1] > 0
        if body is None or across:
            continue
        level: Vertebra | None = None
        if index < len(discs) and levels[index] is not None:
            level = levels[index].upper_vertebra  # type: ignore[union-attr]
        elif index > 0 and levels[index - 1] is not None:
            level = levels[index - 1].lower_vertebra  # type: ignore[union-attr]
        if level is not None:
            bodies.append(VertebralBody(level=level, corners_lps_mm=_copy(body.corners_lps_mm)))
    return tuple(bodies)


def _doubts(found: Found, best: Naming, confidence: float, skipped: Sequence[int], first: int) -> tuple[str, ...]:
    doubts = []
    depth_mm = _depth_mm(found.discs)
    if not PLAUSIBLE_DEPTH_MM[0] <= depth_mm <= PLAUSIBLE_DEPTH_MM[1]:
        doubts.append(
            f"The discs would be {depth_mm:.0f} mm deep (20-55 mm is usual): the pixel size in the image's header "
            "cannot be right, nor can any measurement in mm."
        )
    if best.unseen:
        doubts.append(
            "The sacrum was not seen beneath the lowest disc: L5/S1 lies outside the image or was not recognised, "
            "and all levels may be off by one or more."
        )
    elif confidence < DOUBTFUL:
        doubts.append(
            f"It is not clear which disc is L5/S1 (confidence {confidence:.2f}; perhaps a lumbosacral transition): "
            "levels may be off by one."
        )
    if best.last < len(found.discs) - 1:
        doubts.append(
            "A disc-like structure below L5/S1 was taken for an S1/S2 remnant; check for a transitional vertebra."
        )
    if not found.discs[best.last].complete:
        doubts.append("The lowest disc is cut off by the edge of the image and is not graded.")
    if any(skipped):
        doubts.append("A disc seems to have been missed between two others: levels above the gap may be off by one.")
    if first > 0:
        doubts.append("More discs were found than there are levels to T9: the highest ones are left out.")
    elif best.last + 1 < 5 and not best.unseen:
        doubts.append(f"Only {best.last + 1} discs were found; a lumbar image usually shows at least five.")
    return tuple(doubts)


def _copy(array: FloatArray) -> FloatArray:
    return np.array(array, np.float64)
