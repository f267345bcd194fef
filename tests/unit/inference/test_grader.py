"""What the grading network may look at. Untrained weights: nothing here depends on them."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from inference.grades import Finding
from inference.networks.grader import DiscGrader
from inference.networks.odds import LEARNED, MARROW
from inference.networks.regions import Region
from inference.zones import Zone

FEATURES = ("height", "upper_spread", "lower_spread")
SLICE_WEIGHTS = (0.0, 0.0, 0.0, 0.25, 0.5, 0.25, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def grader() -> DiscGrader:
    torch.manual_seed(1)
    return DiscGrader(features=FEATURES, slice_weights=SLICE_WEIGHTS).eval()


def zones(discs: int) -> torch.Tensor:
    """A drawn disc: 24 rows tall, 100 columns deep, bone above and below, the sac behind."""
    drawn = torch.zeros(discs, 112, 224, dtype=torch.uint8)
    drawn[:, 44:68, 62:87] = Zone.DISC_FRONT
    drawn[:, 44:68, 87:137] = Zone.DISC_MIDDLE
    drawn[:, 44:68, 137:162] = Zone.DISC_BACK
    drawn[:, 34:42, 72:152] = Zone.ENDPLATE_ABOVE
    drawn[:, 70:78, 72:152] = Zone.ENDPLATE_BELOW
    drawn[:, 12:32, 72:152] = Zone.MARROW_ABOVE
    drawn[:, 80:100, 72:152] = Zone.MARROW_BELOW
    drawn[:, 51:61, 168:200] = Zone.SAC
    return drawn


def _input(discs: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = torch.rand(discs, 9, 112, 224, generator=torch.Generator().manual_seed(2))
    return images, torch.ones(discs, 9, dtype=torch.bool), zones(discs)


def test_one_score_per_disc_and_finding(grader: DiscGrader) -> None:
    assert grader(*_input(3)).shape == (3, len(LEARNED))


def test_discs_of_a_batch_do_not_see_each_other(grader: DiscGrader) -> None:
    inputs = _input(3)
    alone = torch.cat([grader(*(each[i : i + 1] for each in inputs)) for i in range(3)])
    torch.testing.assert_close(grader(*inputs), alone, atol=1e-4, rtol=1e-4)


def test_absent_slices_are_not_looked_at(grader: DiscGrader) -> None:
    images, present, drawn = _input()
    present[:, 5] = False
    changed = images.clone()
    changed[:, 5] = 0
    changed[:, :3] = 0  # these weigh nothing even when present
    torch.testing.assert_close(grader(images, present, drawn), grader(changed, present, drawn))


def test_a_lone_mid_slice_scores_like_a_stack_of_the_same_slice(grader: DiscGrader) -> None:
    images, present, drawn = _input()
    alike = images[:, 4:5].expand(-1, 9, -1, -1)
    lone = torch.zeros_like(present)
    lone[:, 4] = True
    torch.testing.assert_close(grader(alike, present, drawn), grader(alike, lone, drawn), atol=1e-4, rtol=1e-4)


def _seen_for(grader: DiscGrader, finding: Finding) -> torch.Tensor:
    """(112, 224) whether the finding's score depends on a pixel of the mid-slice."""
    images, present, drawn = _input()
    images.requires_grad_()
    scores = grader(images, present, drawn)[:, LEARNED.index(finding)]
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    return gradient[:, 4].abs().sum(0) > 0


def test_marrow_is_judged_by_its_own_side_of_the_image(grader: DiscGrader) -> None:
    upper, lower = (_seen_for(grader, f) for f in (Finding.UPPER_MARROW_CHANGE, Finding.LOWER_MARROW_CHANGE))
    assert upper[:40, 80:150].all()
    assert not upper[90:].any()
    assert lower[72:, 80:150].all()
    assert not lower[:22].any()


def test_both_sides_marrow_is_compared_by_one_measure(grader: DiscGrader) -> None:
    """What lies above and below change places: so do the sides, though training left all changes to one branch."""
    with torch.no_grad():
        near, _ = grader.pooled(*_input())
        turned = near.clone()
        for above, below in ((Region.BONE_ABOVE, Region.BONE_BELOW), (Region.ENDPLATE_ABOVE, Region.ENDPLATE_BELOW)):
            turned[:, [above, below]] = near[:, [below, above]]
        sides = grader.sides_of(near)
        torch.testing.assert_close(grader.sides_of(turned), sides.flip(1))
        silent = deepcopy(grader)
        silent.branches[LEARNED.index(Finding.UPPER_MARROW_CHANGE)].out.bias -= 10  # type: ignore[union-attr]
        difference = sides[:, 0] - sides[:, 1]
        torch.testing.assert_close(silent.sides_of(near) @ torch.tensor([1.0, -1.0]), difference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("marrow", "is_one_measure"), [("shared", True), ("separate", False)])
def test_what_is_taught_of_the_marrow_is_what_is_told_of_its_sides(marrow: str, is_one_measure: bool) -> None:
    torch.manual_seed(3)
    look = DiscGrader(features=FEATURES, slice_weights=SLICE_WEIGHTS, marrow=marrow).eval().look(*_input(3))
    taught = look.scores[:, [LEARNED.index(finding) for finding in MARROW]]
    assert torch.equal(taught, look.sides) is is_one_measure


def test_an_unknown_way_to_score_the_marrow_is_refused() -> None:
    with pytest.raises(ValueError, match="marrow 'both' is not known"):
        DiscGrader(features=FEATURES, slice_weights=SLICE_WEIGHTS, marrow="both")


def test_a_bulge_is_not_judged_by_the_front_of_the_disc(grader: DiscGrader) -> None:
    seen = _seen_for(grader, Finding.DISC_BULGING)
    assert seen[50:62, 137:170].all()
    assert not seen[:, :60].any()


def test_a_disc_without_zones_is_scored_by_nothing_it_shows(grader: DiscGrader) -> None:
    """An outline that failed: the network has no opinion of its own, whatever the image."""
    images, present, _ = _input()
    none = torch.zeros(2, 112, 224, dtype=torch.uint8)
    torch.testing.assert_close(grader(images, present, none), grader(1 - images, present, none))
    assert torch.isfinite(grader(images, present, none)).all()


def test_each_score_has_a_gradient_for_each_layer_that_makes_it(grader: DiscGrader) -> None:
    grader.zero_grad()
    grader(*_input()).sum().backward()
    silent = [n for n, p in grader.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all(name.startswith(("regression.", "perceptrons.", "cuts.")) for name in silent), silent
    grader.zero_grad()


def test_the_network_does_not_see_the_measured_numbers(grader: DiscGrader) -> None:
    scores = grader(*_input())
    one, other = torch.zeros(2, 3), torch.full((2, 3), 2.0)
    grader.regression.weight.data.fill_(0.1)
    once, again = (grader.opinions(scores, numbers) for numbers in (one, other))
    torch.testing.assert_close(once.network[Finding.DISC_BULGING], again.network[Finding.DISC_BULGING])
    assert (once.regression[Finding.DISC_BULGING] < again.regression[Finding.DISC_BULGING]).all()
    grader.regression.weight.data.zero_()
