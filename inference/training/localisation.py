"""Trains the localiser: first on the stacks' masks, then on its own marks of the mid-sagittal images as well.

    python -m inference.training.localisation --data ../shared/data/spider --out runs/localisation
    python -m inference.training.localisation --data ../shared/data/spider --out runs/localisation_cv --folds 3

Seeded, checkpointed after every ``CHECKPOINT_STEPS`` steps and resumed from there.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from inference.networks.localiser import Localiser
from inference.training import labelled_slices, localisation_sources, spider
from inference.training.augmentation import STORED_PIXEL_MM, Chance, LabelledSlice, plain_view, view_of
from inference.training.levelling import level_areas, raise_sacrum
from inference.training.localisation_sources import Layout

WIDTHS = (16, 32, 64, 96, 128)
FOLD = 2
BATCH = 8
PEAK_RATE = 3e-3
CHECKPOINT_STEPS = 50
SLAB_SLICES = 5
"""Up to so many 1 mm slices of a stack are averaged into one thick slice, as clinical series are 3-5 mm thick."""
SPLIT_SEED = 20
FOLDS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One pass of the schedule."""

    name: str
    steps: int
    stack_share: float
    """Share of the views that come from the stacks; the rest comes from mid-sagittal images."""
    mild_share: float = 0.0
    """Share of the views that are changed little, as most images of the clinic look."""
    overlap: float = 0.5
    """Weight of the soft Dice in the loss: it finds small structures early, but marks thin ones thicker than they are,
    because to mark what is likelier than half of the Dice pays."""


STAGES = (
    Stage(name="stacks", steps=600, stack_share=1.0),
    Stage(name="marks", steps=450, stack_share=0.4),
    Stage(name="fine", steps=450, stack_share=0.5, mild_share=0.5, overlap=0.0),
    Stage(name="long", steps=1500, stack_share=0.5, mild_share=0.5, overlap=0.0),
)

SHORT_STAGES = (STAGES[0], replace(STAGES[2], steps=150))  # a quarter of the steps, for a busy machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """One training from nothing to a weights file."""

    data: Path
    """The SPIDER folder, or another in the given layout."""
    out: Path
    """The weights file; checkpoints and the curve of the loss lie in a folder of the same name beside it."""
    held_out: Set[int | str] = frozenset()
    """Patients that the network never sees."""
    layout: Layout = Layout.SHARED
    seed: int = 0
    version: str = "3"
    stages: tuple[Stage, ...] = STAGES


def train(training: Training) -> Path:
    """Run all stages, or go on where they were interrupted, and write the weights file. Does nothing once it is there.

    The same training gives the same weights on the same machine.
    """
    if training.out.exists():
        return training.out
    folder = training.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    sources = localisation_sources.read(training.data, training.layout, {str(each) for each in training.held_out})
    stacks = sources.stacks
    torch.manual_seed(training.seed)
    localiser = Localiser(WIDTHS, fold=FOLD, pixel_mm=STORED_PIXEL_MM).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for number, stage in enumerate(training.stages):
        if not stage.overlap:
            level_areas(localiser, stacks)
        images: Sequence[LabelledSlice] = ()
        if stage.stack_share < 1 and sources.has_images_without_masks:
            images = marked_images(training.data, localiser, training.held_out)
        draw, seed = drawer(stacks, images, stage.stack_share), training.seed + 1 + number
        localiser = run(stage, localiser, draw, folder / f"{stage.name}.pt", seed=seed, unseen=sources.unseen)
    level_areas(localiser, stacks)
    with_sacrum = [stack for stack in stacks if stack.sacrum_known]
    if with_sacrum:
        raise_sacrum(localiser, with_sacrum)
    write(localiser, training.out, version=training.version)
    return training.out


def run(  # noqa: PLR0913 - what a stage needs
    stage: Stage,
    localiser: Localiser,
    draw: Callable[[Chance], LabelledSlice],
    checkpoint: Path,
    *,
    seed: int,
    unseen: Sequence[LabelledSlice] = (),
) -> Localiser:
    """Run (or go on with) one stage and return the exponential moving average of the weights.

    The learning rate rises over the first tenth and falls as a cosine. Step n of a stage draws the same views
    whether or not the training was interrupted before. The loss goes into a CSV beside the checkpoint, and the loss of
    the averaged network on the middle slices of ``unseen`` beside it.
    """
    optimiser = torch.optim.AdamW(localiser.parameters(), lr=PEAK_RATE, weight_decay=1e-2)
    average = AveragedModel(localiser, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)  # type: ignore[no-untyped-call]
    first = _restored(checkpoint, localiser, average, optimiser)
    localiser.train()
    losses: list[float] = []
    bar = tqdm(range(first, stage.steps), initial=first, total=stage.steps, desc=stage.name, mininterval=20)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * _schedule(step / stage.steps)
        chances = [Chance((seed, step, k)) for k in range(BATCH)]
        views = [view_of(draw(chance), chance, mild=chance.happens(stage.mild_share)) for chance in chances]
        pixels = torch.stack([view.pixels for view in views])[:, None].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = localiser(pixels)
        lost = loss(
            logits.float(),
            torch.stack([view.targets for view in views]),
            torch.stack([view.weights for view in views]),
            stage.overlap,
        )
        optimiser.zero_grad()
        lost.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(localiser.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(localiser)
        losses.append(lost.item())
        bar.set_postfix(loss=f"{np.mean(losses[-20:]):.3f}", refresh=False)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == stage.steps:
            lost_unseen = validation_loss(average.module.eval(), unseen)
            _note(checkpoint.with_suffix(".csv"), step + 1, float(np.mean(losses[-CHECKPOINT_STEPS:])), lost_unseen)
            _keep(checkpoint, step + 1, localiser, average, optimiser)
    return cast(Localiser, average.module.eval())


def loss(logits: Tensor, targets: Tensor, weights: Tensor, overlap_weight: float) -> Tensor:
    """Binary cross-entropy plus weighted soft Dice, means over the four channels; all (n, 4, rows, columns)."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weights
    entropy = entropy.sum((0, 2, 3)) / weights.sum((0, 2, 3)).clamp_min(1)
    marks = torch.sigmoid(logits) * weights
    overlap = (marks * targets).sum((0, 2, 3))
    dice = (2 * overlap + 50) / (marks.sum((0, 2, 3)) + (targets * weights).sum((0, 2, 3)) + 50)
    return (entropy + overlap_weight * (1 - dice)).mean()


def validation_loss(localiser: nn.Module, unseen: Sequence[LabelledSlice]) -> float:
    """Mean of ``loss`` over the middle slices, nothing changed in them; NaN where there are none."""
    losses = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for each in unseen:
            middle = len(each.pixels) // 2
            view = plain_view(each.pixels[middle], each.labels[middle])
            logits = localiser(view.pixels[None, None].contiguous(memory_format=torch.channels_last))
            losses.append(float(loss(logits.float(), view.targets[None], view.weights[None], overlap_weight=0.5)))
    return float(np.mean(losses)) if losses else math.nan


def slab_from(stack: LabelledSlice, chance: Chance) -> LabelledSlice:
    """One to ``SLAB_SLICES`` neighbouring slices of a stack, the middle ones more often."""
    count = len(stack.pixels)
    middle = int(np.clip(round(count / 2 + chance.numbers.normal() * count / 4), 0, count - 1))
    first = max(0, middle - int(chance.numbers.integers(SLAB_SLICES)))
    chosen = slice(first, max(middle + 1, first + 1))
    return LabelledSlice(pixels=stack.pixels[chosen], labels=stack.labels[chosen], sacrum_known=stack.sacrum_known)


def drawer(
    stacks: Sequence[LabelledSlice], images: Sequence[LabelledSlice], stack_share: float
) -> Callable[[Chance], LabelledSlice]:
    """Chooses what the next view is taken from."""

    def draw(chance: Chance) -> LabelledSlice:
        if not images or chance.happens(stack_share):
            return slab_from(stacks[int(chance.numbers.integers(len(stacks)))], chance)
        return images[int(chance.numbers.integers(len(images)))]

    return draw


def marked_images(root: Path, localiser: nn.Module, held_out: Set[int | str]) -> tuple[LabelledSlice, ...]:
    """The mid-sagittal images on which the localiser agrees with what SPIDER says of them, with its marks as labels."""
    boxes = spider.disc_boxes(root)
    images = [each for each in spider.midsagittal_images(root) if each.patient not in held_out]
    localiser.eval()
    slices = (
        labelled_slices.image_slice(root, image, boxes.get(image.name), localiser)
        for image in tqdm(images, desc="mark images")
    )
    marked = tuple(each for each in slices if each is not None)
    tqdm.write(f"{len(marked)} of {len(images)} images agree with their counts of discs")
    return marked


def write(localiser: Localiser, path: Path, version: str) -> None:
    """Convolutions in fp16, the rest in fp32; the file's header says how to build the network again."""
    state = {
        name: (tensor.half() if tensor.is_floating_point() and tensor.ndim == 4 else tensor).contiguous()
        for name, tensor in localiser.state_dict().items()
    }
    config = json.dumps({"widths": list(localiser.widths), "fold": localiser.fold, "pixel_mm": localiser.pixel_mm})
    save_file(state, path, metadata={"name": "localiser", "version": version, "config": config})


def split(root: Path, count: int = FOLDS) -> tuple[frozenset[int], ...]:
    """The patients dealt into folds, those with stacks evenly; the same on every machine."""
    return spider.folds(spider.patients(root), count, seed=SPLIT_SEED, apart=spider.stack_patients(root))


def held_out_patients(root: Path, one_of: int = 7) -> frozenset[int]:
    """One patient of so many; of 7: those that the shipped network has not seen."""
    return spider.folds(spider.patients(root), one_of, seed=SPLIT_SEED, apart=spider.stack_patients(root))[0]


def cross_validate(
    data: Path, out: Path, count: int = FOLDS, seed: int = 0, stages: tuple[Stage, ...] = STAGES
) -> None:
    """One training per fold, one after the other, into ``fold{k}.safetensors``; ``folds.json`` says who is held out."""
    out.mkdir(parents=True, exist_ok=True)
    folds = split(data, count)
    (out / "folds.json").write_text(json.dumps([sorted(fold) for fold in folds]) + "\n")
    for number, fold in enumerate(folds):
        train(
            Training(
                data=data,
                out=out / f"fold{number}.safetensors",
                held_out=fold,
                seed=seed,
                version=f"3-fold{number}",
                stages=stages,
            )
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on everybody, or with ``--folds`` fold by fold."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    stages = SHORT_STAGES if options.short else STAGES
    if options.folds:
        cross_validate(options.data, options.out, options.folds, options.seed, stages)
    else:
        train(Training(data=options.data, out=options.out / "localiser.safetensors", seed=options.seed, stages=stages))


def _schedule(done: float) -> float:
    return done / 0.1 if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


def _keep(
    checkpoint: Path, step: int, localiser: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    state = {
        "step": step,
        "localiser": localiser.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    partial = checkpoint.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(checkpoint)


def _restored(checkpoint: Path, localiser: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    localiser.load_state_dict(state["localiser"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _note(path: Path, step: int, lost: float, lost_unseen: float) -> None:
    with path.open("a", newline="") as table:
        csv.writer(table).writerow((step, f"{lost:.4f}", f"{lost_unseen:.4f}"))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the localiser on SPIDER.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the SPIDER data, e.g. ../shared/data/spider"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and weights")
    parser.add_argument("--folds", type=int, default=0, help="cross-validate in so many folds; 0: train on everybody")
    parser.add_argument("--short", action="store_true", help="750 steps instead of 3,000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
