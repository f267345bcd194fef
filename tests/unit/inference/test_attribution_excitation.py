"""Winning probabilities are those worked out by hand, and no probability is lost on the way, in 2-D and in 3-D."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from inference.attribution import excitation
from inference.attribution.gradients import NotRectified


class _ByHand(nn.Module):
    """Two pixels -> two hidden units -> two scores.

    hidden = relu([[2, 1], [-1, 3]] x) , scores = [[1, 2], [-1, 1]] hidden. For x = (1, 2): hidden = (4, 5),
    scores = (14, 1).
    """

    def __init__(self) -> None:
        super().__init__()
        self.pixels = nn.Identity()
        self.first, self.relu, self.last = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[2.0, 1.0], [-1.0, 3.0]]))
            self.last.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 1.0]]))
            self.first.bias.zero_()
            self.last.bias.fill_(7.0)  # a bias excites nothing

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.relu(self.first(self.pixels(x))))
        return scores


def _by_hand(*, negated: bool, target: int) -> list[list[float]]:
    network = _ByHand().eval()
    recorded = excitation.record(network, (torch.tensor([[1.0, 2.0]]),), [network.last])
    excited = excitation.excite(recorded, [network.pixels, network.relu], negated=negated)
    return [layer[0].tolist() for layer in excited.winning(target)]


def test_probabilities_of_a_network_worked_out_by_hand() -> None:
    """Score 0 is excited by 4 x 1 and 5 x 2: hidden win 4/14 and 10/14. The first hidden unit is excited by 1 x 2 and
    2 x 1, the second by 2 x 3 only: pixel 0 wins 4/14 x 1/2 = 2/14, pixel 1 wins 2/14 + 10/14."""
    pixels, hidden = _by_hand(negated=False, target=0)
    assert hidden == pytest.approx([4 / 14, 10 / 14])
    assert pixels == pytest.approx([2 / 14, 12 / 14])


def test_a_negative_weight_excites_nothing() -> None:
    """Score 1 has weights -1 and 1: the second hidden unit wins alone, and the second pixel below it."""
    pixels, hidden = _by_hand(negated=False, target=1)
    assert hidden == pytest.approx([0, 1])
    assert pixels == pytest.approx([0, 1])


def test_the_dual_unit_is_excited_by_the_negative_weights() -> None:
    """The negative of score 1 has weights 1 and -1: the first hidden unit wins, half of it from each pixel."""
    pixels, hidden = _by_hand(negated=True, target=1)
    assert hidden == pytest.approx([1, 0])
    assert pixels == pytest.approx([0.5, 0.5])


def test_a_score_that_nothing_excites_has_no_winner() -> None:
    """The negative of score 0 has no positive weight."""
    assert _by_hand(negated=True, target=0) == [[0, 0], [0, 0]]


def test_the_contrastive_map_keeps_what_the_dual_unit_does_not_have() -> None:
    own, dual = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.6, 0.3])
    assert excitation.contrasted(own, dual).tolist() == pytest.approx([0.4, 0, 0])


def test_a_negative_input_excites_through_a_negative_weight() -> None:
    """x = (-1, 2), weights (-3, 1) and bias 0: excited by 3 and 2."""
    network = nn.Sequential(nn.Identity(), nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-3.0, 1.0]]))
        network[3].weight.fill_(1.0)
    recorded = excitation.record(network, (torch.tensor([[-1.0, 2.0]]),), [network[3]])
    (pixels,) = excitation.excite(recorded, [network[0]], negated=False).winning(0)
    assert pixels[0].tolist() == pytest.approx([0.6, 0.4])


def test_a_normalisation_belongs_to_the_convolution_before_it() -> None:
    """Weights (2, 1) times a scale of -1 are (-2, -1): positive pixels excite nothing, whatever the shift."""
    network = nn.Sequential(
        nn.Identity(), nn.Conv2d(1, 1, (1, 2), bias=False), nn.BatchNorm2d(1), nn.ReLU(), nn.Flatten(), nn.Linear(1, 1)
    ).eval()
    pixels = torch.tensor([[[[1.0, 4.0]]]])
    winners = []
    for scale in (1.0, -1.0):
        with torch.no_grad():
            network[1].weight.copy_(torch.tensor([[[[2.0, 1.0]]]]))
            network[2].weight.fill_(scale)
            network[2].bias.fill_(20.0)
            network[5].weight.fill_(1.0)
        recorded = excitation.record(network, (pixels,), [network[5]])
        winners.append(excitation.excite(recorded, [network[0]], negated=False).winning(0)[0].flatten().tolist())
    assert winners[0] == pytest.approx([2 / 6, 4 / 6])
    assert winners[1] == [0, 0]


class _Residual(nn.Module):
    """The family of the shipped grader in two or three dimensions: convolutions with normalisation, a residual sum,
    pooling of both kinds, concatenation, linear layers with a second input beside the images."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        convolution = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
        normalisation = (nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 2]
        self.stem = nn.Sequential(convolution(1, 6, 3, 1, 1, bias=False), normalisation(6), nn.ReLU(inplace=True))
        self.pool = (nn.MaxPool2d, nn.MaxPool3d)[dimensions - 2](2)
        self.inner = nn.Sequential(convolution(6, 8, 3, 1, 1, bias=False), normalisation(8), nn.ReLU())
        self.outer = nn.Sequential(convolution(8, 8, 3, 1, 1, bias=False), normalisation(8))
        self.skip, self.relu = convolution(6, 8, 1), nn.ReLU()
        self.known, self.mix, self.mixed = nn.Identity(), nn.Linear(8 + 8 + 3, 10), nn.ReLU()
        self.last, self.line = nn.Linear(10, 2), nn.Linear(3, 2, bias=False)

    def forward(self, images: Tensor, features: Tensor) -> Tensor:
        maps = self.pool(self.stem(images))
        maps = self.relu(self.outer(self.inner(maps)) + self.skip(maps))
        axes, known = tuple(range(2, 2 + self.dimensions)), self.known(features)
        mixed = self.mixed(self.mix(torch.cat([maps.mean(axes), maps.amax(axes), known], 1)))
        scores: Tensor = self.last(mixed) + self.line(known)
        return scores


def _residual(dimensions: int) -> tuple[_Residual, tuple[Tensor, Tensor]]:
    torch.manual_seed(dimensions)
    network = _Residual(dimensions)
    images = torch.rand(4, 1, *[12] * dimensions)
    for _ in range(20):  # running statistics of a network that was trained
        network(images, torch.randn(4, 3))
    return network.eval(), (images, torch.randn(4, 3))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("negated", [False, True])
@pytest.mark.parametrize("target", [0, 1])
def test_the_probabilities_of_every_cut_sum_to_one(dimensions: int, negated: bool, target: int) -> None:
    network, inputs = _residual(dimensions)
    recorded = excitation.record(network, inputs, [network.last, network.line])
    read_at = [network.stem, network.pool, network.relu, network.known]
    *trunk, known = excitation.excite(recorded, read_at, negated=negated).winning(target)
    beside = known.sum(1)
    for layer in trunk:
        assert (layer >= 0).all()
        # A unit that fires by its shift alone keeps what it wins: nothing below it excited it.
        torch.testing.assert_close(layer.flatten(1).sum(1) + beside, torch.ones(4), atol=2e-3, rtol=0)


def test_a_run_leaves_neither_hooks_nor_gradients_behind() -> None:
    network, inputs = _residual(2)
    before = network(*inputs)
    recorded = excitation.record(network, inputs, [network.last, network.line])
    excitation.excite(recorded, [network.stem], negated=False).winning(0)
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    torch.testing.assert_close(network(*inputs), before)


def test_hooks_are_removed_when_the_network_fails() -> None:
    network, (images, features) = _residual(2)
    with pytest.raises(RuntimeError):
        excitation.record(network, (images, features[:, :2]), [network.last])
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ([nn.Linear(2, 2), nn.GELU()], NotRectified),
        ([nn.Linear(2, 2)], NotRectified),
        ([nn.BatchNorm1d(2), nn.ReLU()], ValueError),
        ([relu := nn.ReLU(), nn.Linear(2, 2), relu], ValueError),
    ],
    ids=["another activation", "no activation", "normalisation of an input", "one activation used twice"],
)
def test_networks_that_the_rule_does_not_hold_for_are_refused(layers: list[nn.Module], what: type[Exception]) -> None:
    with pytest.raises(what):
        excitation.record(nn.Sequential(*layers).eval(), (torch.ones(1, 2),), [])


def test_normalisation_by_the_batch_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU())
    with pytest.raises(ValueError, match="eval"):
        excitation.record(network.train(), (torch.rand(2, 1, 3, 3),), [])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_cuda() -> None:
    network, inputs = _residual(3)
    found = []
    for device in ("cpu", "cuda"):
        there = network.to(device)
        recorded = excitation.record(there, tuple(each.to(device) for each in inputs), [there.last, there.line])
        found.append(excitation.excite(recorded, [there.stem], negated=False).winning(0)[0].cpu())
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-3)
