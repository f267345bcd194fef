"""Disc narrowing in SpineNet's four steps: 1 none, 2 mild, 3 moderate, 4 severe.

SPIDER's labels teach yes or no; how much is measured, on the disc height index (mean height / depth). What the disc has
lost is told beside what is usual at its level, and beside the better preserved discs of the same spine. The steps are
those of the modified Pfirrmann grades 6 to 8 (Griffith 2007, Spine 32:E708-E712): less than
30 %, 30 to 60 %, more than 60 % of the disc's height. Which criterion the readers of SpineNet's own data went by is not
published beyond the names of the four steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from inference.anatomy import DiscLevel
from inference.grades import Basis, Doubt, Grade

USUAL_HEIGHT_INDEX: Mapping[DiscLevel, float] = {
    DiscLevel.T9_T10: 0.167,
    DiscLevel.T10_T11: 0.167,
    DiscLevel.T11_T12: 0.171,
    DiscLevel.T12_L1: 0.191,
    DiscLevel.L1_L2: 0.202,
    DiscLevel.L2_L3: 0.224,
    DiscLevel.L3_L4: 0.242,
    DiscLevel.L4_L5: 0.246,
    DiscLevel.L5_S1: 0.240,
}
"""Median of the discs of SPIDER's 179 public training patients that are labelled not narrowed and Pfirrmann 1 or 2, as
the localiser outlines them (``spinenode evaluate measured`` prints it). T9/T10 has two such discs: that of T10/T11."""
PRESERVED_PERCENTILE = 90.0
"""A spine's own build is read off its best preserved discs."""
OWN_BUILD = (0.9, 1.1)
"""And moves what is expected by at most so much: a spine whose discs are all narrow must not pass for a slight one."""
MODERATE_PERCENT, SEVERE_PERCENT = 30.0, 60.0
"""Griffith 2007."""
LOSS_SD_PERCENT = 7.6
"""Of one measured loss: the standard deviation between a patient's mid-sagittal image and stack, over the square root
of two (206 discs of SPIDER)."""
FIRM = 0.7
"""From this probability on a learned yes or no is firm, as where network and regression are compared."""
LEAST_STEP = 0.45
"""Below this probability of the step that is said, the step is uncertain (as a Pfirrmann grade is)."""

CRITERION = (
    "none or narrowed: learned; mild, moderate, severe: disc height index < 30, 30-60, > 60 % below what is usual at "
    "the level and in the patient's best preserved discs (steps of Griffith 2007, Spine 32:E708)"
)
CRITERION_WITHOUT_HEIGHT = "none or narrowed: learned; the disc's height was not measured, and the mildest step is said"


def losses_percent(
    levels: Sequence[DiscLevel],
    height_indices: Sequence[float],
    usual: Mapping[DiscLevel, float] = USUAL_HEIGHT_INDEX,
) -> tuple[float, ...]:
    """How much of its expected height index each disc of one spine has lost, %; below 0 where it is taller.

    ``height_indices`` may hold NaN, which stays NaN.
    """
    ratios = np.array([index / usual[level] for level, index in zip(levels, height_indices, strict=True)])
    seen = ratios[np.isfinite(ratios)]
    if not seen.size:
        return (float("nan"),) * len(ratios)
    build = float(np.clip(np.percentile(seen, PRESERVED_PERCENTILE), *OWN_BUILD))
    return tuple(float(100 * (1 - ratio / build)) for ratio in ratios)


def step(loss_percent: float) -> int:
    """2 mild, 3 moderate, 4 severe, of a disc that is narrowed."""
    return 2 + (loss_percent >= MODERATE_PERCENT) + (loss_percent > SEVERE_PERCENT)


def graded(learned: Grade, loss_percent: float | None) -> Grade:
    """The four-step grade out of the learned one (1 none, 2 narrowed) and the measured loss; None: not measured.

    The learned yes or no decides whether there is narrowing, the measurement how much. The probability of a step is
    that of narrowing times the chance that the measured loss, with its error, lies in the step. Where the two firmly
    disagree (no narrowing at a loss of 30 % or more; narrowing of a disc that has lost nothing) the doubt is
    ``AT_ODDS``.
    """
    narrowed = learned.probabilities[2]
    if loss_percent is None:
        shares, value = (1 / 3, 1 / 3, 1 / 3), learned.value
    else:
        error = NormalDist(loss_percent, LOSS_SD_PERCENT)
        mild, not_severe = error.cdf(MODERATE_PERCENT), error.cdf(SEVERE_PERCENT)
        shares = (mild, not_severe - mild, 1 - not_severe)
        value = 1 if learned.value == 1 else step(loss_percent)
    probabilities = {1: 1 - narrowed, **{2 + i: narrowed * share for i, share in enumerate(shares)}}
    return Grade(
        value=value,
        probabilities=probabilities,
        basis=Basis.MEASURED,
        criterion=CRITERION if loss_percent is not None else CRITERION_WITHOUT_HEIGHT,
        doubt=learned.doubt or _doubt(value, learned, probabilities[value], loss_percent),
    )


def _doubt(value: int, learned: Grade, probability: float, loss_percent: float | None) -> Doubt | None:
    is_firm = learned.probabilities[learned.value] >= FIRM
    if loss_percent is not None and is_firm:
        against = loss_percent >= MODERATE_PERCENT if value == 1 else loss_percent <= 0
        if against:
            return Doubt.AT_ODDS
    return Doubt.UNSURE if probability < LEAST_STEP else None
