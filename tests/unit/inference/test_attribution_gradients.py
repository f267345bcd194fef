"""Gradient saliency and guided back-propagation give what can be worked out by hand, in 2-D and in 3-D."""

from __future__ import annotations

import pytest
import torch
from captum.attr import GuidedBackprop, Saliency
from torch import Tensor, nn

from inference.attribution.gradients import NotRectified, guided, saliency


class _TwoUnits(nn.Module):
    """score 0 = relu(x0 - 2 x1) - relu(x0 + x1); score 1 = relu(x0 + x1)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, -2.0], [1.0, 1.0]]))
            self.last.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.relu(self.first(x)))
        return scores


X = torch.tensor([[5.0, 1.0]])
PLUS, MINUS = torch.ones(2, 1), -torch.ones(2, 1)


def test_saliency_is_the_magnitude_of_the_gradient() -> None:
    """Both units are active: d score 0 = (1, -2) - (1, 1) = (0, -3)."""
    (found,) = saliency(_TwoUnits(), (X,), ())
    assert found[0].tolist() == [[0, 3]]


def test_guided_back_propagation_drops_the_unit_that_pulls_the_score_down() -> None:
    """Only the first unit hands back a positive gradient: (1, -2)."""
    (found,) = guided(_TwoUnits(), (X,), (), PLUS)
    assert found[0].tolist() == [[1, 2]]


def test_of_the_scores_negative_the_other_unit_speaks() -> None:
    (found,) = guided(_TwoUnits(), (X,), (), MINUS)
    assert found[0].tolist() == [[1, 1]]


def test_a_unit_that_is_silent_hands_nothing_back() -> None:
    """x = (1, 1): the first unit is at -1."""
    x = torch.tensor([[1.0, 1.0]])
    assert guided(_TwoUnits(), (x,), (), PLUS)[0][0].tolist() == [[0, 0]]
    assert saliency(_TwoUnits(), (x,), ())[0][0].tolist() == [[1, 1]]


class _Beside(nn.Module):
    """Images beside a feature and a mask: score = mask x (relu(mean of the image) + 3 x feature)."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.convolution = (nn.Conv2d, nn.Conv3d)[dimensions - 2](1, 1, 1, bias=False)
        self.relu = nn.ReLU()
        with torch.no_grad():
            self.convolution.weight.fill_(2.0)

    def forward(self, images: Tensor, feature: Tensor, mask: Tensor) -> Tensor:
        return (mask * (self.relu(self.convolution(images)).flatten(1).mean(1) + 3 * feature))[:, None]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_volumes_and_other_inputs_have_gradients_too(dimensions: int) -> None:
    images = torch.ones(2, 1, *[4] * dimensions)
    feature, mask = torch.ones(2), torch.tensor([1.0, 0.5])
    of_images, of_feature = saliency(_Beside(dimensions), (images, feature), (mask,))
    assert of_feature.tolist() == [[3, 1.5]]
    torch.testing.assert_close(of_images[0].flatten(1).sum(1), 2 * mask)
    again = guided(_Beside(dimensions), (images, feature), (mask,), torch.ones(1, 2))
    torch.testing.assert_close(again, (of_images, of_feature))


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.LeakyReLU(), nn.Tanh()])
def test_guided_back_propagation_refuses_other_activations(activation: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), activation)
    with pytest.raises(NotRectified, match=type(activation).__name__):
        guided(network, (X,), (), PLUS)


class _Scores(nn.Module):
    """Three scores of a small network of residual kind, which also counts its runs."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        torch.manual_seed(4)
        convolution = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
        self.first, self.second = convolution(2, 4, 3, padding=1), convolution(4, 4, 3, padding=1)
        self.relus = nn.ModuleList([nn.ReLU(), nn.ReLU()])
        self.last = nn.Linear(4, 3)
        self.runs = 0

    def forward(self, images: Tensor) -> Tensor:
        self.runs += 1
        below = self.relus[0](self.first(images))
        above = self.relus[1](self.second(below) + below)
        scores: Tensor = self.last(above.flatten(2).mean(2))
        return scores


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_one_run_gives_what_captum_gives_score_by_score(dimensions: int) -> None:
    network = _Scores(dimensions)
    images = torch.rand(5, 2, *[6] * dimensions, requires_grad=True)
    signs = torch.tensor([[1.0, -1, 1, -1, 1], [1.0] * 5, [-1.0] * 5])
    (salient,), (guiding,) = saliency(network, (images,), ()), guided(network, (images,), (), signs)
    assert network.runs == 2
    for score in range(3):
        torch.testing.assert_close(salient[score], Saliency(network).attribute(images, target=score))

        def signed(given: Tensor, column: int = score) -> Tensor:
            return network(given)[:, column, None] * signs[column][:, None]

        judge = GuidedBackprop(network)
        judge.forward_func = signed
        torch.testing.assert_close(guiding[score], judge.attribute(images, target=0).abs())


def test_what_is_kept_of_a_gradient_may_be_less_than_all() -> None:
    images = torch.rand(5, 2, 6, 6)
    (whole,), (sums,) = (saliency(_Scores(2), (images,), (), *kept) for kept in ((), (lambda each: each.sum(1),)))
    assert whole.shape == (3, 5, 2, 6, 6)
    torch.testing.assert_close(sums, whole.sum(2))


def test_nothing_is_left_in_the_network() -> None:
    network = _TwoUnits()
    guided(network, (X,), (), PLUS)
    saliency(network, (X,), ())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._backward_hooks or module._forward_hooks for module in network.modules())
    assert not X.requires_grad
