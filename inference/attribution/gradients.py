"""Two visualisation methods that follow the gradient of a class score back to the pixels. For 2-D and 3-D networks.

Both are captum's, which runs the network anew for every score; here one forward run serves all scores. Both run on the
device of what they are given and leave no gradient behind in the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from captum.attr import GuidedBackprop, Saliency
from torch import Tensor, nn

NOT_RECTIFIED = (nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.PReLU, nn.Mish, nn.Sigmoid, nn.Tanh)
"""Activations that may be negative or saturate: the two methods that are rules about rectified ones do not hold."""

Condensed = Callable[[Tensor], Tensor]
"""What is kept of the magnitudes of one score's gradient: all scores' on every pixel would be a lot of memory."""


class NotRectified(Exception):
    """The network has an activation that is no ReLU, so guided and excitation back-propagation say nothing of it."""


def as_they_are(magnitudes: Tensor) -> Tensor:
    """Keep all magnitudes."""
    return magnitudes


def saliency(
    network: nn.Module, inputs: tuple[Tensor, ...], others: tuple[Tensor, ...], condensed: Condensed = as_they_are
) -> tuple[Tensor, ...]:
    """|d score / d input| (Simonyan, Vedaldi, Zisserman 2014, section 3) of every score.

    Arguments:
        network: ``network(*inputs, *others)`` gives (n, scores); its samples do not see each other (eval mode).
        inputs: images (n, ...), and whatever else a gradient is wanted for.
        others: further inputs, n long each.
        condensed: what is kept of the magnitudes that one score gives to one input.

    Returns for each of ``inputs`` (scores, ...): ``condensed`` magnitudes.
    """
    method = Saliency(network)
    method.gradient_func = _of_every_score(condensed, None)
    found: tuple[Tensor, ...] = method.attribute(_leaves(inputs), additional_forward_args=others)
    return found


def guided(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    others: tuple[Tensor, ...],
    signs: Tensor,
    condensed: Condensed = as_they_are,
) -> tuple[Tensor, ...]:
    """Magnitude of the gradient when ReLUs pass back positive gradient only (Springenberg et al. 2015, section 3).

    Every ReLU has to be a module of its own, used once in a forward pass. ``signs`` (scores, n) is 1 where the score
    itself is explained and -1 where its negative is, that is the other class of two: the rule knows a direction. The
    remaining arguments and what is returned are those of ``saliency``. Raises NotRectified.
    """
    require_rectified(network)
    method = GuidedBackprop(network)
    method.gradient_func = _of_every_score(condensed, signs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU activations")  # they are removed again
        found: tuple[Tensor, ...] = method.attribute(_leaves(inputs), additional_forward_args=others)
    return found


def require_rectified(network: nn.Module) -> None:
    """Raise NotRectified unless every activation that is a module is a ReLU and there is at least one."""
    for name, module in network.named_modules():
        if isinstance(module, NOT_RECTIFIED):
            raise NotRectified(f"{name} is a {type(module).__name__}; this method holds for networks of ReLUs")
    if not any(isinstance(module, nn.ReLU) for module in network.modules()):
        raise NotRectified("no ReLU module in the network: functional ones cannot be seen from outside")


def _leaves(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.detach().requires_grad_() for each in inputs)


def _of_every_score(condensed: Condensed, signs: Tensor | None) -> Callable[..., tuple[Tensor, ...]]:
    """In place of captum's ``compute_gradients``: (scores, ...) for each input, from one forward run."""

    def gradients(
        network: nn.Module, inputs: tuple[Tensor, ...], _target: None, others: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            scores: Tensor = network(*inputs, *others)
        columns = scores.unbind(1)
        weights = torch.ones_like(scores).T if signs is None else signs.to(scores.dtype)
        kept = []
        for column, weight in zip(columns, weights, strict=True):
            of_inputs = torch.autograd.grad(column, inputs, weight, retain_graph=True)
            kept.append([condensed(each.abs()) for each in of_inputs])
        return tuple(torch.stack(each) for each in zip(*kept, strict=True))

    return gradients
