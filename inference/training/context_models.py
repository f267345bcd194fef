"""Small networks over the discs of one spine: what is said of a disc, given what is said of those above and below it.

They start from the mean of the opinions and learn what to add to it; untaught they say exactly that mean. Beside
the two that look along the spine stands one that sees each disc alone: what it gains is no gain of context.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.networks import odds
from inference.training.gradings import UNKNOWN
from inference.training.losses import Weighted

DROPOUT = 0.3
FURTHEST = 4
"""Discs that lie further apart than so many are all told apart alike."""
LEANING = 3.0
"""Log of how much more a head of the transformer looks at its own neighbour, before it has learned anything."""
LEAST_DISCS = 3
"""A spine is never shortened below this."""
EPOCHS = 40
PATIENCE = 8
"""Epochs without a gain after which a training ends."""
SPINES_AT_ONCE = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 5e-2


class Alone(nn.Module):
    """Each disc by itself, through as many layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())

    def forward(self, discs: Tensor, present: Tensor) -> Tensor:
        """(spines, longest, width), (spines, longest) bool -> (spines, longest, width)."""
        told: Tensor = self.layers(discs)
        return told


class Recurrent(nn.Module):
    """A gated recurrent unit from head to foot, and one from foot to head (Cho et al. 2014)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.along = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, discs: Tensor, present: Tensor) -> Tensor:
        """As ``Alone``. Discs that are not there are at the end, and are not passed."""
        packed = nn.utils.rnn.pack_padded_sequence(discs, present.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        told, _ = self.along(packed)
        return nn.utils.rnn.pad_packed_sequence(told, batch_first=True, total_length=discs.shape[1])[0]


class Attending(nn.Module):
    """Two layers of a transformer (Vaswani et al. 2017) that know how far two discs lie apart, and no level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(width), _Layer(width)])

    def forward(self, discs: Tensor, present: Tensor) -> Tensor:
        """As ``Alone``."""
        for layer in self.layers:
            discs = layer(discs, present)
        return discs


class _Layer(nn.Module):
    """Its heads begin with the disc above, the disc below, the disc itself, and all of them."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = nn.MultiheadAttention(width, heads, DROPOUT, batch_first=True)
        leaning = torch.zeros(heads, 2 * FURTHEST + 1)
        leaning[0, FURTHEST - 1], leaning[1, FURTHEST + 1], leaning[2, FURTHEST] = (LEANING,) * 3
        self.by_distance = nn.Parameter(leaning)
        self.onward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(2 * width, width),
        )

    def forward(self, discs: Tensor, present: Tensor) -> Tensor:
        place = torch.arange(discs.shape[1])
        apart = (place[None] - place[:, None]).clamp(-FURTHEST, FURTHEST) + FURTHEST
        leaning = self.by_distance[:, apart][None].expand(len(discs), -1, -1, -1)
        leaning = leaning.masked_fill(~present[:, None, None, :], float("-inf")).flatten(0, 1)
        normed = self.norm(discs)
        discs = discs + self.attend(normed, normed, normed, attn_mask=leaning, need_weights=False)[0]
        told: Tensor = discs + self.onward(discs)
        return told


KINDS: Mapping[str, type[Alone] | type[Recurrent] | type[Attending]] = {
    "each disc for itself": Alone,
    "recurrent along the spine": Recurrent,
    "transformer along the spine": Attending,
}


class Context(nn.Module):
    """What is said of all discs of a spine, said again with each other in view."""

    def __init__(self, kind: str, inputs: int, targets: tuple[str, ...], width: int = 32) -> None:
        """``kind``: one of ``KINDS``; ``inputs``: numbers per disc; ``targets``: what is graded."""
        super().__init__()
        self.targets = targets
        self.enter = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(DROPOUT))
        self.mix = KINDS[kind](width)
        self.out = nn.Linear(width, len(targets))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.log_sharpness = nn.Parameter(torch.zeros(len(targets)))

    def forward(self, seen: Tensor, present: Tensor, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is said again.

        Arguments:
            seen: (spines, longest, inputs), discs from head to foot, those that are not there at the end.
            present: (spines, longest) bool.
            means: per target (spines, longest, classes - 1) log-odds of lying beyond each class.

        Returns: as ``means``.
        """
        added = self.out(self.mix(self.enter(seen), present))
        sharpness = self.log_sharpness.exp()
        return {target: sharpness[i] * means[target] + added[..., i : i + 1] for i, target in enumerate(self.targets)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What is known of each disc."""

    seen: Tensor
    """(n, inputs) of all discs."""
    means: Mapping[str, Tensor]
    """Per target (n, classes - 1) log-odds: the mean of the opinions."""
    labels: Tensor
    """(n, len(TARGETS))."""


def spines_of(image: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) image of each disc, (n,) place in it from the foot upwards -> (spines, longest) discs of each
    image from head to foot, -1 where it has no more."""
    members = [np.flatnonzero(image == each) for each in np.unique(image)]
    found = np.full((len(members), max(map(len, members))), -1, np.int64)
    for row, of_spine in zip(found, members, strict=True):
        row[: len(of_spine)] = of_spine[np.argsort(-place[of_spine], kind="stable")]
    return found


def said_again(model: Context, material: Material, spines: NDArray[np.int64]) -> tuple[Tensor, dict[str, Tensor]]:
    """(spines, longest) of ``spines_of`` -> (discs,) which discs they have, and of these per target
    (discs, classes - 1) log-odds of lying beyond each class."""
    rows = torch.from_numpy(spines)
    present = rows >= 0
    there = rows.clamp_min(0)
    told = model(material.seen[there], present, {target: each[there] for target, each in material.means.items()})
    return rows[present], {target: each[present] for target, each in told.items()}


def shortened(spines: NDArray[np.int64], chance: np.random.Generator) -> NDArray[np.int64]:
    """Every other spine cut off above and below, as other scans show fewer discs."""
    found = np.full_like(spines, -1)
    for row, spine in zip(found, spines, strict=True):
        discs = spine[spine >= 0]
        if chance.random() < 0.5 and len(discs) > LEAST_DISCS:
            count = int(chance.integers(LEAST_DISCS, len(discs) + 1))
            start = int(chance.integers(len(discs) - count + 1))
            discs = discs[start : start + count]
        row[: len(discs)] = discs
    return found


def taught(
    model: Context,
    material: Material,
    task: Weighted,
    spines: tuple[NDArray[np.int64], NDArray[np.int64]],
    seed: int,
) -> Context:
    """The model as it was when it said the second spines best; as it was given, if that was at the start.

    ``spines``: as of ``spines_of``, those to learn from, and those that only tell when to stop.
    """
    learn, stop = spines
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    least, best = _loss(model.eval(), material, task, stop).item(), copy.deepcopy(model.state_dict())
    last_gain = 0
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for part in np.array_split(chance.permutation(len(learn)), max(1, round(len(learn) / SPINES_AT_ONCE))):
            optimiser.zero_grad()
            _loss(model, material, task, shortened(learn[part], chance)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.inference_mode():
            loss = _loss(model.eval(), material, task, stop).item()
        if loss < least:
            least, best, last_gain = loss, copy.deepcopy(model.state_dict()), epoch
        if epoch - last_gain >= PATIENCE:
            break
    model.load_state_dict(best)
    return model.eval()


def _loss(model: Context, material: Material, task: Weighted, spines: NDArray[np.int64]) -> Tensor:
    rows, told = said_again(model, material, spines)
    labels = material.labels[rows]
    shares = {target: odds.shares(each) for target, each in told.items()}
    return task.of_shares(shares, labels, (labels != UNKNOWN).sum(0))
