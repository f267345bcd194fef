"""Gradient saliency and guided back-propagation give what can be worked out by hand, in 2-D and in 3-D."""

from __future__ import annotations

import pytest
import torch
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
PLUS, MINUS = torch.tensor([1.0]), torch.tensor([-1.0])


def test_saliency_is_the_magnitude_of_the_gradient() -> None:
    """Both units are active: d score 0 = (1, -2) - (1, 1) = (0, -3)."""
    (found,) = saliency(_TwoUnits(), (X,), (), 0)
    assert found.tolist() == [[0, 3]]


def test_guided_back_propagation_drops_the_unit_that_pulls_the_score_down() -> None:
    """Only the first unit hands back a positive gradient: (1, -2)."""
    (found,) = guided(_TwoUnits(), (X,), (), 0, PLUS)
    assert found.tolist() == [[1, 2]]


def test_of_the_scores_negative_the_other_unit_speaks() -> None:
    (found,) = guided(_TwoUnits(), (X,), (), 0, MINUS)
    assert found.tolist() == [[1, 1]]


def test_a_unit_that_is_silent_hands_nothing_back() -> None:
    """x = (1, 1): the first unit is at -1."""
    x = torch.tensor([[1.0, 1.0]])
    assert guided(_TwoUnits(), (x,), (), 0, PLUS)[0].tolist() == [[0, 0]]
    assert saliency(_TwoUnits(), (x,), (), 0)[0].tolist() == [[1, 1]]


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
    of_images, of_feature = saliency(_Beside(dimensions), (images, feature), (mask,), 0)
    assert of_feature.tolist() == [3, 1.5]
    torch.testing.assert_close(of_images.flatten(1).sum(1), 2 * mask)
    again = guided(_Beside(dimensions), (images, feature), (mask,), 0, torch.ones(2))
    torch.testing.assert_close(again, (of_images, of_feature))


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.LeakyReLU(), nn.Tanh()])
def test_guided_back_propagation_refuses_other_activations(activation: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), activation)
    with pytest.raises(NotRectified, match=type(activation).__name__):
        guided(network, (X,), (), 0, PLUS)


def test_nothing_is_left_in_the_network() -> None:
    network = _TwoUnits()
    guided(network, (X,), (), 0, PLUS)
    saliency(network, (X,), (), 0)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._backward_hooks or module._forward_hooks for module in network.modules())
    assert not X.requires_grad
