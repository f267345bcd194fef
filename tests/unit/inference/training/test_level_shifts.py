"""Names of discs held against gradings, counted from L5/S1 = 1 headwards."""

from __future__ import annotations

import pytest

from inference.training.level_shifts import fit

LABELS = {1: (5, 1), 2: (2, 0), 3: (4, 1), 4: (1, 0), 5: (3, 0), 6: (2, 0)}


def named(shift: int) -> dict[int, tuple[float, float]]:
    """What a grader that is always right says of discs that are named ``shift`` levels too high."""
    return {level + shift: (float(grade), float(narrowed)) for level, (grade, narrowed) in LABELS.items()}


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_spine_that_is_named_one_level_off_fits_its_gradings_when_shifted_back(shift: int) -> None:
    found = fit(7, named(shift), LABELS)
    assert found is not None
    assert found.best == shift
    assert found.errors[shift] == 0


def test_errors_are_squared_and_summed_over_both_gradings() -> None:
    said = {level: (grade + 1.0, abs(narrowed - 0.5)) for level, (grade, narrowed) in LABELS.items()}
    found = fit(7, said, LABELS)
    assert found is not None
    assert found.errors[0] == pytest.approx(1 + 0.25)


def test_a_shift_that_fits_a_little_better_says_nothing() -> None:
    labels = dict.fromkeys(range(1, 7), (2, 0))
    said = dict.fromkeys(labels, (2.0, 0.1))
    found = fit(7, said, labels)
    assert found is not None
    assert found.best == 0


def test_three_discs_are_too_few_to_tell() -> None:
    few = {level: named(0)[level] for level in (1, 2, 3)}
    assert fit(7, few, LABELS) is None
