"""Excitation back-propagation: which neurons won the competition for a class score (Zhang et al., ECCV 2016).

A unit hands its probability down to the units below in proportion to what each of them excited it with, activation
times positive weight (section 3.2, equation 10): P(below) = a_below * sum over above of w+ P(above) / z(above), with
z(above) = sum over below of a w+. So the probabilities of every layer that cuts the network sum to 1.

With P = a G this is an ordinary backward pass of G through a network of positive weights, in which each ReLU multiplies
G by its activation over its z. That network is run here by hooks, after a plain run that says what the activations are.
Additions, averages, concatenations and maxima over activations then hand down their share by their own gradient:
residual networks and pooling of any kind need no rule of their own.

* A batch normalisation (eval mode) after a convolution is one linear layer with it; shifts and biases excite nothing.
* An input that may be negative (a centred feature) excites through a negative weight as well: w x > 0 is what counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from inference.attribution.gradients import require_rectified

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """A network, and what a plain run of it showed."""

    network: nn.Module
    inputs: tuple[Tensor, ...]
    last_layers: frozenset[nn.Module]
    activations: Mapping[nn.Module, Tensor]
    """Output of each ReLU."""
    scales: Mapping[nn.Module, Tensor]
    """Convolution -> (channels,) the factors of the batch normalisation that follows it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Excitation:
    """The network of positive weights, run once: asked for any score, it says who won.

    ``excited``: (n, scores) what excites each score; ``layers``: the outputs of the layers that are read.
    """

    excited: Tensor
    layers: tuple[Tensor, ...]

    def winning(self, target: int, layers: Sequence[int] | None = None) -> tuple[Tensor, ...]:
        """Marginal winning probabilities of some of the layers, shaped as their outputs, for one column of the scores.

        ``layers``: which of them, by their places, or all; what lies below the lowest of these is not gone through.
        They sum to 1 over all units of a cut through the network, for every sample; to 0 where nothing excites the
        score. Probability that went to other inputs is missing from the layers that lie beside them.
        """
        excited = self.excited[:, target]
        shares = excited / torch.where(excited > 0, excited, torch.ones_like(excited)).detach()
        read = self.layers if layers is None else [self.layers[place] for place in layers]
        gradients = torch.autograd.grad(shares.sum(), read, retain_graph=True, allow_unused=True)
        return tuple(
            torch.zeros_like(layer) if gradient is None else (layer * gradient).detach()
            for layer, gradient in zip(read, gradients, strict=True)
        )


@torch.no_grad()
def record(network: nn.Module, inputs: tuple[Tensor, ...], last_layers: Collection[nn.Module]) -> Recorded:
    """Run the network as it is.

    Arguments:
        network: in eval mode; convolutions and linear layers, batch normalisation after convolutions, ReLU modules used
            once each, and sums, averages, concatenations, maxima over what ReLUs gave.
        inputs: the first holds the images.
        last_layers: the layers whose outputs, summed up, are the scores: no ReLU comes after them.

    Raises NotRectified, and ValueError for a network built otherwise.
    """
    require_rectified(network)
    activations: dict[nn.Module, Tensor] = {}
    scales: dict[nn.Module, Tensor] = {}
    made_by: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensor is kept so that its id stays its own

    def on_convolution(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> None:
        made_by[id(output)] = module, output

    def on_normalisation(module: nn.Module, given: tuple[Any, ...], _: Tensor) -> None:
        if id(given[0]) not in made_by or not isinstance(module, _BatchNorm):
            raise ValueError("a batch normalisation has to follow a convolution")
        scales[made_by[id(given[0])][0]] = _scale_of(module)

    def on_activation(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> None:
        if module in activations:
            raise ValueError("each ReLU has to be a module of its own, used once")
        activations[module] = output.clone()

    with _hooks(network, {_CONVOLUTIONS: on_convolution, (_BatchNorm,): on_normalisation, (nn.ReLU,): on_activation}):
        network(*inputs)
    return Recorded(
        network=network, inputs=inputs, last_layers=frozenset(last_layers), activations=activations, scales=scales
    )


def excite(recorded: Recorded, read_at: Sequence[nn.Module], *, negated: bool) -> Excitation:
    """Run the network of positive weights.

    ``read_at``: modules at whose outputs probabilities are wanted. ``negated``: explain the scores' negatives, which
    the last layers' negative weights excite: the other class of two, and the dual unit of the contrastive variant.
    """
    read: dict[nn.Module, Tensor] = {}

    def on_layer(module: nn.Module, given: tuple[Any, ...], _: Tensor) -> Tensor:
        weight = _weight_of(module, recorded.scales.get(module))
        return _excited(module, given[0], -weight if negated and module in recorded.last_layers else weight)

    def on_normalisation(_: nn.Module, given: tuple[Any, ...], __: Tensor) -> Tensor:
        return given[0]  # type: ignore[no-any-return]

    def on_activation(module: nn.Module, given: tuple[Any, ...], _: Tensor) -> Tensor:
        excited, activation = given[0], recorded.activations[module]
        factor = activation / torch.where(excited > 0, excited, torch.ones_like(excited)).detach()
        return torch.where(excited > 0, excited * factor, activation)  # alone by its bias: nothing below it wins

    def on_read(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor:
        # What the images do not reach (another input) has no gradient of its own yet.
        read[module] = output if output.requires_grad else output.detach().requires_grad_()
        return read[module]

    layers = (*_CONVOLUTIONS, nn.Linear)
    with torch.enable_grad(), ExitStack() as stack:
        kinds: dict[tuple[type, ...], Any] = {layers: on_layer, (_BatchNorm,): on_normalisation}
        stack.enter_context(_hooks(recorded.network, kinds | {(nn.ReLU,): on_activation}))
        for module in read_at:
            stack.callback(module.register_forward_hook(on_read).remove)
        images, *others = recorded.inputs
        excited = recorded.network(images.detach().requires_grad_(), *others)
    return Excitation(excited=excited, layers=tuple(read[module] for module in read_at))


def contrasted(of_class: Tensor, of_others: Tensor) -> Tensor:
    """The contrastive variant (section 3.3): winning probabilities beyond those of the dual unit, not negative."""
    return (of_class - of_others).clamp_min(0)


def _scale_of(normalisation: _BatchNorm) -> Tensor:
    if normalisation.training or normalisation.running_var is None:
        raise ValueError("batch normalisation has to be in eval mode")
    scale = torch.rsqrt(normalisation.running_var + normalisation.eps)
    return scale if normalisation.weight is None else scale * normalisation.weight.detach()


def _weight_of(layer: nn.Module, scale: Tensor | None) -> Tensor:
    weight: Tensor = layer.weight.detach()  # type: ignore[operator]
    return weight if scale is None else weight * scale.reshape(-1, *[1] * (weight.ndim - 1))


def _excited(layer: nn.Module, given: Tensor, weight: Tensor) -> Tensor:
    """The positive products of inputs and weights, summed: what excites each unit of the layer."""
    excited = _linear(layer, given.clamp_min(0), weight.clamp_min(0))
    if bool((given < 0).any()):
        excited = excited + _linear(layer, (-given).clamp_min(0), (-weight).clamp_min(0))
    return excited


def _linear(layer: nn.Module, given: Tensor, weight: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return functional.linear(given, weight)
    forward: Tensor = layer._conv_forward(given, weight, None)  # type: ignore[operator]
    return forward


@contextmanager
def _hooks(network: nn.Module, by_kind: Mapping[tuple[type, ...], Any]) -> Iterator[None]:
    handles: list[RemovableHandle] = []
    try:
        for module in network.modules():
            handles.extend(
                module.register_forward_hook(hook) for kinds, hook in by_kind.items() if isinstance(module, kinds)
            )
        yield
    finally:
        for handle in handles:
            handle.remove()
