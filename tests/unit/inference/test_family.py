"""What holds for every grading network, whatever it is made of. Untrained weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference import evidence
from inference.descriptors import FEATURES
from inference.discs import cut
from inference.grades import Basis, Finding, Grade
from inference.grading import grade
from inference.networks import odds, variants
from inference.networks.ensemble import Ensemble
from inference.networks.family import GradingNetwork, shown_slices
from inference.networks.odds import LEARNED, MARROW
from inference.networks.scales import SCALES
from inference.networks.slice_pooling import POOLINGS, AttentionOverSlices
from inference.networks.spinenet import Layout, instances
from inference.report import Method
from tests.spine_factory import drawn_spine
from tests.unit.inference.test_grader import zones

THIN = {"width": 0.03, "dropout": 0.0}
CONFIGS: dict[str, tuple[str, dict[str, object]]] = {
    "by regions": ("regions", {"slice_weights": [0, 0, 0, 0.25, 0.5, 0.25, 0, 0, 0], "widths": [4, 6, 8, 8]}),
    "channels": ("slices_as_channels", {**THIN, "branch_after": 1}),
    "pooled by attention": ("slices_pooled", {**THIN, "pooling": "attention", "branch_after": 3}),
    "pooled by the maximum": ("slices_pooled", THIN),
    "volumetric": ("volumetric", {**THIN, "branch_after": 4}),
}


def _network(name: str, scale: str = "proportional") -> GradingNetwork:
    torch.manual_seed(3)
    variant, arguments = CONFIGS[name]
    return variants.build(variant, {"features": FEATURES, "scale": scale, **arguments}).eval()


@pytest.fixture(params=list(CONFIGS))
def network(request: pytest.FixtureRequest) -> GradingNetwork:
    return _network(request.param)


def _input(discs: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = torch.rand(discs, 9, 112, 224, generator=torch.Generator().manual_seed(2))
    return images, torch.ones(discs, 9, dtype=torch.bool), zones(discs)


def test_one_severity_per_disc_and_finding_and_a_summary_of_the_size_it_says(network: GradingNetwork) -> None:
    with torch.no_grad():
        look = network.look(*_input(3))
        assert network(*_input(3)).shape == (3, len(LEARNED))
    assert look.sides.shape == (3, 2)
    assert look.summary.shape == (3, network.summary_size)


def test_discs_of_a_batch_do_not_see_each_other(network: GradingNetwork) -> None:
    inputs = _input(2)
    with torch.no_grad():
        alone = torch.cat([network(*(each[i : i + 1] for each in inputs)) for i in range(2)])
        torch.testing.assert_close(network(*inputs), alone, atol=1e-4, rtol=1e-4)


def test_a_lone_mid_slice_is_judged_as_a_stack_of_itself(network: GradingNetwork) -> None:
    images, present, drawn = _input()
    alike, lone = images[:, 4:5].expand(-1, 9, -1, -1).clone(), torch.zeros_like(present)
    lone[:, 4] = True
    with torch.no_grad():
        whole = network(alike, present, drawn)
        torch.testing.assert_close(network(alike * lone[:, :, None, None], lone, drawn), whole, atol=1e-4, rtol=1e-4)


def test_absent_slices_are_not_looked_at(network: GradingNetwork) -> None:
    images, present, drawn = _input()
    present[:, 5] = False
    changed = images.clone()
    changed[:, 5] = 0
    with torch.no_grad():
        torch.testing.assert_close(network(images, present, drawn), network(changed, present, drawn))
    assert (network.slice_shares(present)[:, 5] == 0).all()
    torch.testing.assert_close(network.slice_shares(present).sum(1), torch.ones(2))


def test_every_finding_teaches_and_every_layer_learns(network: GradingNetwork) -> None:
    """Each score alone reaches the trunk; all together reach all but the cuts and what judges the numbers."""
    network.train()
    for finding in LEARNED:
        network.zero_grad()
        network(*_input())[:, LEARNED.index(finding)].sum().backward()
        first = next(p for name, p in network.named_parameters() if name.startswith(("stem", "trunk")))
        assert first.grad is not None, finding
        assert first.grad.abs().sum() > 0, finding
    network.zero_grad()
    network(*_input()).sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None]
    assert all(name.startswith(("regression.", "perceptrons.", "cuts.")) for name in silent), silent


def test_what_a_map_shows_is_spread_over_the_slices_without_loss(network: GradingNetwork) -> None:
    images, present, drawn = _input()
    present[0, 6:] = False
    read: list[torch.Tensor] = []
    (module,) = network.maps_of(Finding.PFIRRMANN)
    handle = module.register_forward_hook(lambda *given: read.append(given[2]))
    with torch.no_grad():
        network(images, present, drawn)
    handle.remove()
    of_map = read[0].sum(1)
    cells = network.spread(of_map, present)
    assert cells.shape[:2] == (2, 9)
    assert cells.sum().item() == pytest.approx(of_map.sum().item(), rel=1e-4)
    assert not cells[0, 6:].any()


@pytest.mark.parametrize("method", Method)
def test_every_method_explains_it(network: GradingNetwork, method: Method) -> None:
    drawn = drawn_spine()
    discs = cut(drawn.volume, drawn.spine)[:1]
    said = {f: Grade(value=1, probabilities={0: 0.2, 1: 0.8}, basis=Basis.LEARNED) for f in LEARNED}
    maps = evidence.in_cells(discs, network, [said], method)
    assert maps.shape == (len(LEARNED), 1, 9, 28, 56)
    assert np.isfinite(maps).all()
    assert maps[LEARNED.index(Finding.DISC_NARROWING)].max() > 0


def test_it_is_built_again_from_what_it_says_of_itself(network: GradingNetwork) -> None:
    again = variants.build(network.variant, network.config).eval()
    again.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(again(*_input()), network(*_input()))


def test_the_marrow_is_judged_twice_the_upper_half_and_the_lower_one_upside_down() -> None:
    rows = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])[None, None, :, None]
    layout = Layout(disc=torch.tensor([0]), place=torch.tensor([4]), count=1)
    halves, doubled = instances(rows, layout)
    assert halves[:, 0, :, 0].tolist() == [[1, 2, 3, 0, 0], [5, 4, 3, 0, 0]]
    assert (doubled.disc.tolist(), doubled.count) == ([0, 1], 2)


@pytest.mark.parametrize("scale", SCALES)
@settings(max_examples=30, deadline=None)
@given(scores=st.lists(st.floats(-20, 20), min_size=4, max_size=4))
def test_a_class_further_is_never_likelier_to_be_passed(scale: str, scores: list[float]) -> None:
    made = SCALES[scale]()
    with torch.no_grad():
        beyond = made.beyond(torch.tensor([scores[: made.outputs]]))
    assert beyond.shape == (1, 4)
    assert (beyond.diff(dim=1) <= 1e-5).all()


@pytest.mark.parametrize("scale", SCALES)
@settings(max_examples=30, deadline=None)
@given(scores=st.lists(st.floats(-5, 5), min_size=4, max_size=4), column=st.integers(0, 3), more=st.floats(0, 5))
def test_a_higher_score_is_never_a_milder_grade(scale: str, scores: list[float], column: int, more: float) -> None:
    made = SCALES[scale]()
    low = torch.tensor([scores[: made.outputs]])
    high = low.clone()
    high[0, column % made.outputs] += more
    with torch.no_grad():
        assert (made.beyond(high) - made.beyond(low) >= -1e-4).all()


def test_softmax_shares_are_those_of_five_logits() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.5, 0.1]])
    beyond = SCALES["softmax"]().beyond(logits.diff(dim=1))
    shares = odds.probabilities({Finding.PFIRRMANN: beyond})[Finding.PFIRRMANN]
    torch.testing.assert_close(shares, torch.softmax(logits, 1), atol=1e-5, rtol=1e-4)


def test_conditional_scores_multiply() -> None:
    """Each step is passed with 0.5: beyond the first class 0.5, the second 0.25, then 0.125 and 0.0625."""
    beyond = SCALES["conditional"]().beyond(torch.zeros(1, 4))
    torch.testing.assert_close(torch.sigmoid(beyond), torch.tensor([[0.5, 0.25, 0.125, 0.0625]]))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["by regions", "channels"])
def test_grades_are_told_whatever_the_scale(name: str, scale: str) -> None:
    network = _network(name, scale)
    drawn = drawn_spine()
    for grades in grade(cut(drawn.volume, drawn.spine), network):
        assert sum(grades[Finding.PFIRRMANN].probabilities.values()) == pytest.approx(1)
        assert set(grades) == set(LEARNED)


def test_an_ensemble_says_the_mean_of_its_members_log_odds() -> None:
    members = [_network("by regions", "softmax") for _ in range(2)]
    with torch.no_grad():
        members[1].branches[0].out.bias += 1.0  # type: ignore[index, union-attr]
        both = Ensemble(members).eval()
        said = both.log_odds(both.look(*_input()).scores)[Finding.PFIRRMANN]
        each = [m.log_odds(m.look(*_input()).scores)[Finding.PFIRRMANN] for m in members]
        torch.testing.assert_close(said, (each[0] + each[1]) / 2)
        torch.testing.assert_close(both(*_input()), (members[0](*_input()) + members[1](*_input())) / 2)
    again = variants.build(both.variant, both.config)
    again.load_state_dict(both.state_dict(), strict=True)
    drawn = drawn_spine()
    said_of = {f: Grade(value=1, probabilities={0: 0.2, 1: 0.8}, basis=Basis.LEARNED) for f in LEARNED}
    maps = evidence.in_cells(cut(drawn.volume, drawn.spine)[:1], both, [said_of], Method.CONTRASTIVE_EXCITATION)
    assert maps.max() > 0


def test_the_nearest_slice_stands_in_for_an_absent_one_the_inner_before_the_outer() -> None:
    present = torch.tensor([[0, 0, 1, 0, 1, 0, 1, 0, 0]], dtype=torch.bool)
    assert shown_slices(present).tolist() == [[2, 2, 2, 4, 4, 4, 6, 6, 6]]


@pytest.mark.parametrize(("name", "expected"), [("mean", [1.0, 5.0]), ("max", [1.5, 5.0]), ("attention", [1.0, 5.0])])
def test_slices_are_pooled_disc_by_disc(name: str, expected: list[float]) -> None:
    """Untrained attention is the mean."""
    maps = torch.tensor([0.5, 1.5, 5.0])[:, None, None, None].expand(3, 2, 1, 1)
    pooled = POOLINGS[name](2)(maps, torch.tensor([0, 0, 1]), 2)
    assert pooled[:, 0, 0, 0].tolist() == expected


def test_attention_counts_a_slice_by_what_it_shows() -> None:
    attention = AttentionOverSlices(1)
    torch.nn.init.constant_(attention.weight, 1.0)
    maps = torch.tensor([0.0, float(np.log(3.0)), 7.0])[:, None, None, None]
    shares = attention.shares(maps, torch.tensor([0, 0, 1]), 2)
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.75, 1.0]))


@pytest.mark.parametrize(
    ("variant", "arguments"),
    [("regions", {}), ("volumetric", {"branch_after": 6}), ("slices_pooled", {"pooling": "median"}), ("vgg", {})],
)
def test_a_network_that_cannot_be_is_refused(variant: str, arguments: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        variants.build(variant, {"features": FEATURES, **arguments})


def test_a_network_that_was_not_taught_marrow_has_no_sides() -> None:
    findings = [finding for finding in LEARNED if finding not in MARROW]
    for name in ("by regions", "channels"):
        variant, arguments = CONFIGS[name]
        network = variants.build(variant, {"features": FEATURES, "findings": findings, **arguments}).eval()
        with torch.no_grad():
            look = network.look(*_input())
        assert look.scores.shape == (2, len(findings))
        assert not look.sides.any()
