"""The steps of one training: from where it was stopped, on one device or shared by several.

Every step's randomness (order of the discs, augmentation, dropout) comes from the seed and the step's number alone. So
a training that was stopped and goes on from its last checkpoint ends in the very weights that it would have ended in,
and each of several processes knows what the others do.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from inference.training import parallel
from inference.training.lesson import Lesson, Material, Moment
from inference.training.parallel import Part
from inference.training.pretext import Masked, Views
from inference.training.pretext import Material as Unlabelled
from inference.training.recipe import Recipe, RecipeError, as_text

LARGEST_GRADIENT = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What tells one training of a run from another."""

    seed: int
    log: Path
    """CSV with each epoch's losses; the checkpoint lies beside it."""
    device: str
    beside: tuple[str, ...] = ()
    """Further devices that share every batch with it."""
    checkpoint_steps: int = 50

    @property
    def checkpoint(self) -> Path:
        return self.log.with_suffix(".checkpoint")


class Loop:
    """One process's share of a training."""

    def __init__(
        self,
        lesson: Lesson | Masked | Views,
        material: Material | Unlabelled,
        recipe: Recipe,
        session: Session,
        part: Part,
    ) -> None:
        self.lesson, self.material, self.recipe, self.session, self.part = lesson, material, recipe, session, part
        self.batch_size = min(recipe.batch, len(material.rows))
        self.steps_per_epoch = len(material.rows) // self.batch_size
        self.steps = recipe.epochs * self.steps_per_epoch
        lesson.to(session.device).train()
        self.together: nn.Module = parallel.shared(lesson, session.device) if part.count > 1 else lesson
        self.optimiser = torch.optim.AdamW(lesson.learning, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, recipe.learning_rate, total_steps=self.steps, pct_start=rise_of(self.steps)
        )
        is_scaled = session.device != "cpu" and recipe.precision == "mixed"
        self.scaler = torch.amp.GradScaler(enabled=is_scaled)
        self.averages = {name: value.clone() for name, value in self._averaged().items()}
        self.step = 0
        self.losses: list[list[float]] = []
        self.table: list[list[str]] = []

    def run(self) -> None:
        """All steps that are left. Raises RecipeError where the checkpoint is of another training."""
        self._go_on()
        leads = self.part.rank == 0
        with tqdm(total=self.steps, initial=self.step, desc=self.session.log.stem, disable=not leads) as bar:
            while self.step < self.steps:
                self.losses.append(self._learn())
                self.step += 1
                bar.update()
                epoch_ends = self.step % self.steps_per_epoch == 0
                if epoch_ends:
                    mean = np.mean(self.losses, axis=0)
                    self.table.append([str(self.step // self.steps_per_epoch - 1), *(f"{each:.4f}" for each in mean)])
                    self.losses = []
                if leads and epoch_ends:
                    self._write_log()
                if leads and (self.step % self.session.checkpoint_steps == 0 or self.step == self.steps):
                    self._save()
        if self.recipe.ema:
            self.lesson.network.load_state_dict(self.averages, strict=False)

    def _learn(self) -> list[float]:
        seed = np.random.SeedSequence((self.session.seed, self.step))
        torch.manual_seed(int(seed.generate_state(1)[0]) + self.part.rank)
        moment = Moment(
            chance=np.random.default_rng(seed),
            recipe=self.recipe,
            device=self.session.device,
            part=(self.part.rank, self.part.count),
            done=self.step / self.steps,
        )
        loss, *told = self.together(self.material.batch(self._chosen(), moment))
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.lesson.learning, LARGEST_GRADIENT)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        if self.recipe.ema:
            self._average()
        return [float(each) for each in told]

    def _chosen(self) -> NDArray[np.int64]:
        """The rows of this step's batch."""
        epoch, place = divmod(self.step, self.steps_per_epoch)
        order = np.random.default_rng((self.session.seed, 1, epoch)).permutation(self.material.rows)
        return order[place * self.batch_size :][: self.batch_size]

    def _averaged(self) -> dict[str, Tensor]:
        """What the moving average is taken of."""
        state: dict[str, Tensor] = self.lesson.network.state_dict()
        return {name: value for name, value in state.items() if value.is_floating_point()}

    def _average(self) -> None:
        # The first steps' weights would else weigh on for as long as the decay says.
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for name, value in self._averaged().items():
            self.averages[name].lerp_(value, 1 - decay)

    def _state(self) -> dict[str, Any]:
        return {
            "lesson": self.lesson.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averages": self.averages,
            "step": self.step,
            "losses": self.losses,
            "table": self.table,
            "of": self._of(),
        }

    def _of(self) -> dict[str, Any]:
        """What training a checkpoint belongs to."""
        rows = self.material.rows
        return {"recipe": as_text(self.recipe), "seed": self.session.seed, "discs": len(rows), "sum": int(rows.sum())}

    def _save(self) -> None:
        temporary = self.session.checkpoint.with_suffix(".part")
        torch.save(self._state(), temporary)
        temporary.replace(self.session.checkpoint)

    def _go_on(self) -> None:
        if not self.session.checkpoint.exists():
            return
        kept = torch.load(self.session.checkpoint, map_location=self.session.device, weights_only=True)
        if kept["of"] != self._of():
            raise RecipeError(
                f"{self.session.checkpoint} is of another training (recipe, seed or discs): remove it to begin anew"
            )
        self.lesson.load_state_dict(kept["lesson"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.schedule.load_state_dict(kept["schedule"])
        self.scaler.load_state_dict(kept["scaler"])
        self.averages = kept["averages"]
        self.step, self.losses, self.table = kept["step"], kept["losses"], kept["table"]

    def _write_log(self) -> None:
        with self.session.log.open("w", newline="") as stream:
            csv.writer(stream).writerows([["epoch", *self.lesson.losses], *self.table])


def rise_of(steps: int) -> float:
    """The part of the steps in which the learning rate rises: a tenth, and where that is a single step, half a step
    more, which the schedule cannot do without."""
    return min(max(0.1, 1.5 / steps), 0.75)
