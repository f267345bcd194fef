"""What the grading network may look at, and what its scores mean. Untrained weights: nothing here depends on them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.grades import CLASSES, Finding
from inference.networks.grader import LEARNED, DiscGrader

FEATURES = ("height", "upper_spread", "upper_level", "lower_spread", "lower_level")
SLICE_WEIGHTS = (0.0, 0.0, 0.0, 0.25, 0.5, 0.25, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def grader() -> DiscGrader:
    torch.manual_seed(1)
    network = DiscGrader(features=FEATURES, slice_weights=SLICE_WEIGHTS).eval()
    for branch in (network.whole, *network.endplates, *network.marrow):
        torch.nn.init.normal_(branch.line.weight)
    return network


def _input(discs: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(discs, 9, 112, 224, generator=generator)
    return images, torch.ones(discs, 9, dtype=torch.bool), torch.rand(discs, len(FEATURES), generator=generator)


def test_one_score_per_disc_and_finding(grader: DiscGrader) -> None:
    assert grader(*_input(3)).shape == (3, len(LEARNED))


def test_discs_of_a_batch_do_not_see_each_other(grader: DiscGrader) -> None:
    images, present, features = _input(3)
    together = grader(images, present, features)
    alone = torch.cat([grader(images[i : i + 1], present[i : i + 1], features[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_absent_slices_are_not_looked_at(grader: DiscGrader) -> None:
    images, present, features = _input()
    present[:, 5] = False
    changed = images.clone()
    changed[:, 5] = 0
    changed[:, :3] = 0  # these weigh nothing even when present
    torch.testing.assert_close(grader(images, present, features), grader(changed, present, features))


def test_a_lone_mid_slice_scores_like_a_stack_of_the_same_slice(grader: DiscGrader) -> None:
    images, present, features = _input()
    alike = images[:, 4:5].expand(-1, 9, -1, -1)
    lone = torch.zeros_like(present)
    lone[:, 4] = True
    torch.testing.assert_close(grader(alike, present, features), grader(alike, lone, features), atol=1e-4, rtol=1e-4)


def test_an_unknown_feature_counts_as_the_usual_one(grader: DiscGrader) -> None:
    images, present, features = _input()
    usual, unknown = features.clone(), features.clone()
    usual[:, 0], unknown[:, 0] = grader.feature_mean[0], torch.nan
    torch.testing.assert_close(grader(images, present, usual), grader(images, present, unknown))


@pytest.mark.parametrize(
    ("finding", "blind_to"),
    [
        (Finding.UPPER_MARROW_CHANGE, "lower_"),
        (Finding.LOWER_MARROW_CHANGE, "upper_"),
        (Finding.UPPER_ENDPLATE_DEFECT, "lower_"),
        (Finding.LOWER_ENDPLATE_DEFECT, "upper_"),
    ],
)
def test_a_side_is_not_judged_by_the_features_of_the_other(grader: DiscGrader, finding: Finding, blind_to: str) -> None:
    images, present, features = _input()
    features.requires_grad_()
    score = grader(images, present, features)[:, LEARNED.index(finding)].sum()
    (gradient,) = torch.autograd.grad(score, features)
    for i, name in enumerate(FEATURES):
        assert bool(gradient[:, i].any()) == (not name.startswith(blind_to)), name


def test_marrow_is_judged_by_its_own_part_of_the_image(grader: DiscGrader) -> None:
    images, present, features = _input()
    images.requires_grad_()
    scores = grader(images, present, features)
    (upper,) = torch.autograd.grad(
        scores[:, LEARNED.index(Finding.UPPER_MARROW_CHANGE)].sum(), images, retain_graph=True
    )
    (lower,) = torch.autograd.grad(scores[:, LEARNED.index(Finding.LOWER_MARROW_CHANGE)].sum(), images)
    assert upper[..., :56, :].any()
    assert not upper[..., 66:, :].any()
    assert not upper[..., :30].any()  # in front of the bodies
    assert not upper[..., -30:].any()  # behind the canal
    assert lower[..., 56:, :].any()
    assert not lower[..., :46, :].any()


@settings(max_examples=25, deadline=None)
@given(scores=st.lists(st.floats(-20, 20), min_size=len(LEARNED), max_size=len(LEARNED)))
def test_probabilities_are_shares_of_the_findings_classes(grader: DiscGrader, scores: list[float]) -> None:
    with torch.no_grad():
        probabilities = grader.probabilities(torch.tensor([scores]))
    assert list(probabilities) == list(LEARNED)
    for finding, shares in probabilities.items():
        assert shares.shape == (1, len(CLASSES[finding]))
        assert (shares >= 0).all()
        assert shares.sum().item() == pytest.approx(1, abs=1e-5)


def test_a_binary_finding_is_positive_above_zero(grader: DiscGrader) -> None:
    scores = torch.zeros(2, len(LEARNED))
    scores[0], scores[1] = 0.1, -0.1
    shares = grader.probabilities(scores)[Finding.DISC_NARROWING]
    assert shares.argmax(1).tolist() == [1, 0]


def test_the_pfirrmann_score_rises_through_the_five_classes(grader: DiscGrader) -> None:
    grader.temperature[0] = 0.05  # so sharp that every class has a stretch of scores where it leads
    cuts = grader.cuts.detach()
    assert (cuts[1:] > cuts[:-1]).all()
    scores = torch.zeros(5, len(LEARNED))
    scores[:, 0] = torch.tensor([cuts[0] - 9, *((cuts[:-1] + cuts[1:]) / 2), cuts[-1] + 9])
    assert grader.probabilities(scores)[Finding.PFIRRMANN].argmax(1).tolist() == [0, 1, 2, 3, 4]
    grader.temperature[0] = 1.0
