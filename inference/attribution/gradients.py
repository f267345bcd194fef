"""Two visualisation methods that follow the gradient of a class score back to the pixels. For 2-D and 3-D networks.

Both run on the device of what they are given and leave no gradient behind in the network.
"""

from __future__ import annotations

import warnings

from captum.attr import GuidedBackprop, Saliency
from torch import Tensor, nn

NOT_RECTIFIED = (nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.PReLU, nn.Mish, nn.Sigmoid, nn.Tanh)
"""Activations that may be negative or saturate: the two methods that are rules about rectified ones do not hold."""


class NotRectified(Exception):
    """The network has an activation that is no ReLU, so guided and excitation back-propagation say nothing of it."""


def saliency(
    network: nn.Module, inputs: tuple[Tensor, ...], others: tuple[Tensor, ...], target: int
) -> tuple[Tensor, ...]:
    """|d score / d input| (Simonyan, Vedaldi, Zisserman 2014, section 3).

    Arguments:
        network: ``network(*inputs, *others)`` gives (n, scores); its samples do not see each other (eval mode).
        inputs: images (n, ...), and whatever else a gradient is wanted for.
        others: further inputs, n long each.
        target: column of the scores.

    Returns tensors shaped as ``inputs``, not negative.
    """
    found: tuple[Tensor, ...] = Saliency(network).attribute(
        _leaves(inputs), target=target, additional_forward_args=others
    )
    return tuple(each.detach() for each in found)


def guided(
    network: nn.Module, inputs: tuple[Tensor, ...], others: tuple[Tensor, ...], target: int, signs: Tensor
) -> tuple[Tensor, ...]:
    """Magnitude of the gradient when ReLUs pass back positive gradient only (Springenberg et al. 2015, section 3).

    Every ReLU has to be a module of its own, used once in a forward pass. ``signs`` (n,) is 1 where the score itself is
    explained and -1 where its negative is, that is the other class of two: the rule knows a direction. The remaining
    arguments are those of ``saliency``. Raises NotRectified.
    """
    require_rectified(network)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU activations")  # they are removed again
        found: tuple[Tensor, ...] = GuidedBackprop(_Signed(network)).attribute(
            _leaves(inputs), target=target, additional_forward_args=(*others, signs)
        )
    return tuple(each.detach().abs() for each in found)


def require_rectified(network: nn.Module) -> None:
    """Raise NotRectified unless every activation that is a module is a ReLU and there is at least one."""
    for name, module in network.named_modules():
        if isinstance(module, NOT_RECTIFIED):
            raise NotRectified(f"{name} is a {type(module).__name__}; this method holds for networks of ReLUs")
    if not any(isinstance(module, nn.ReLU) for module in network.modules()):
        raise NotRectified("no ReLU module in the network: functional ones cannot be seen from outside")


def _leaves(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.detach().requires_grad_() for each in inputs)


class _Signed(nn.Module):
    """The network's scores, each sample's times its sign, which comes last of the inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        *given, signs = inputs
        scores: Tensor = self.network(*given)
        return scores * signs[:, None]
