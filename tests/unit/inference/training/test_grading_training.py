"""A training can be stopped, shared and repeated, and what it makes is loaded again."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.grades import Finding
from inference.networks.ensemble import Ensemble
from inference.networks.family import GradingNetwork
from inference.networks.odds import LEARNED
from inference.training import grading, grading_run, loop, run_folder
from inference.training.disc_augmentation import Shown, batch
from inference.training.grading import Session, train
from inference.training.grading_scores import auc
from inference.training.gradings import TARGETS
from inference.training.recipe import Recipe, RecipeError
from inference.training.views import VIEWS
from inference.weights import WeightsError, read_grader
from tests.unit.inference.training.made_discs import made_discs

TINY = {"widths": [3, 4, 4, 4], "hidden": 4, "dropout": 0.0}
THIN = {"width": 0.02, "dropout": 0.0}
QUICK = Recipe(network=TINY, epochs=2, batch=4, folds=2)


def _session(folder: Path, name: str = "fold0", **more: object) -> Session:
    folder.mkdir(exist_ok=True)
    return replace(Session(seed=5, log=folder / f"{name}.csv", device="cpu", checkpoint_steps=2), **more)  # type: ignore[arg-type]


def _assert_same(one: GradingNetwork, other: GradingNetwork) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("recipe", [QUICK, replace(QUICK, ema=0.9, teacher=0.0)], ids=["last", "averaged"])
def test_a_stopped_training_ends_in_the_weights_of_an_unstopped_one(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 steps; stopped at the fourth, with a checkpoint after the second: the third is learned again."""
    discs, rows = made_discs(13), np.arange(12)
    whole = train(discs, rows, recipe, _session(tmp_path / "whole"))
    learn = loop.Loop._learn

    def stopped(self: loop.Loop) -> list[float]:
        if self.step == 3:
            raise KeyboardInterrupt
        return learn(self)

    monkeypatch.setattr(loop.Loop, "_learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(discs, rows, recipe, _session(tmp_path / "stopped"))
    monkeypatch.setattr(loop.Loop, "_learn", learn)
    resumed = train(discs, rows, recipe, _session(tmp_path / "stopped"))
    _assert_same(whole, resumed)
    logs = [(tmp_path / each / "fold0.csv").read_text() for each in ("whole", "stopped")]
    assert logs[0] == logs[1]
    assert [row["epoch"] for row in csv.DictReader(logs[0].splitlines())] == ["0", "1"]


def test_the_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    discs, rows = made_discs(8), np.arange(8)
    train(discs, rows, replace(QUICK, epochs=1), _session(tmp_path))
    with pytest.raises(RecipeError, match=r"fold0\.checkpoint is of another training"):
        train(discs, rows, QUICK, _session(tmp_path))


def test_another_seed_is_another_training_and_two_make_an_ensemble(tmp_path: Path) -> None:
    discs, rows = made_discs(8), np.arange(8)
    both = train(discs, rows, replace(QUICK, epochs=1, seeds=2), _session(tmp_path))
    assert isinstance(both, Ensemble)
    one, other = both.members
    assert not torch.equal(one.stem[1].weight, other.stem[1].weight)  # type: ignore[union-attr, index]
    grading_run.save_weights(both, tmp_path / "g.safetensors")
    again = read_grader(tmp_path / "g.safetensors")
    _assert_same(both, again)
    grading_run.forget_checkpoints(_session(tmp_path))
    assert not list(tmp_path.glob("*.checkpoint"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """The same discs, their augmentation, the batch's statistics and its loss: only the order of sums differs."""
    discs, rows = made_discs(12), np.arange(12)
    recipe = replace(QUICK, teacher=0.0, precision="full", learning_rate=1e-3)
    alone = train(discs, rows, recipe, _session(tmp_path / "alone"))
    begun = train(discs, rows, replace(recipe, epochs=1, learning_rate=1e-12), _session(tmp_path / "begun"))
    together = train(discs, rows, recipe, _session(tmp_path / "together", beside=("cpu",)))
    for name, value in alone.named_parameters():
        if name.startswith("regression."):
            continue
        moved = (value - begun.get_parameter(name)).norm()
        assert (together.get_parameter(name) - value).norm() < 0.05 * moved + 1e-6, name


def test_a_part_of_a_batch_is_augmented_as_in_the_whole() -> None:
    discs, rows = made_discs(9), np.arange(9)
    whole = batch(discs, rows, np.random.default_rng(1))
    parts = [batch(discs, rows, np.random.default_rng(1), Shown(part=(k, 2))) for k in range(2)]
    for k, part in enumerate(parts):
        for of_whole, of_part in zip(whole, part, strict=True):
            torch.testing.assert_close(of_part, of_whole[k::2])


def test_a_stack_may_be_shown_whole_and_turned() -> None:
    discs = made_discs(3)
    seen = set()
    for seed in range(12):
        _, present, _, _ = batch(discs, np.array([0]), np.random.default_rng(seed), Shown(slices=9, turned=0.5))
        seen.add(tuple(torch.nonzero(present[0]).flatten().tolist()))
    assert seen == {(4,), (2, 3, 4, 5, 6)}


VARIANTS = [("regions", TINY), ("slices_as_channels", THIN), ("slices_pooled", THIN), ("volumetric", THIN)]


@pytest.mark.parametrize(("variant", "network"), VARIANTS)
def test_every_variant_is_trained_kept_and_read_again(variant: str, network: dict[str, object], tmp_path: Path) -> None:
    discs, rows = made_discs(6), np.arange(6)
    recipe = Recipe(variant=variant, network={**network, "scale": "conditional"}, epochs=1, batch=3, slices=9)
    grader = train(discs, rows, recipe, _session(tmp_path))
    assert grader.findings == LEARNED  # no label of canal stenosis, so nothing is said of it
    grading_run.save_weights(grader, tmp_path / "g.safetensors")
    again = read_grader(tmp_path / "g.safetensors")
    said, said_again = (grading_run.said_by(each, discs, rows, VIEWS["plain"]) for each in (grader, again))
    np.testing.assert_allclose(said["scores"], said_again["scores"], rtol=1e-5)
    assert said["scores"].shape == (6, len(LEARNED))
    assert (np.diff(said["cuts"], axis=1) >= -1e-5).all()


def test_weights_that_are_not_what_their_header_says_are_refused(tmp_path: Path) -> None:
    grader = train(made_discs(4), np.arange(4), replace(QUICK, epochs=1), _session(tmp_path))
    grader.config["hidden"] = 5
    grading_run.save_weights(grader, tmp_path / "g.safetensors")
    with pytest.raises(WeightsError, match=r"g\.safetensors does not fit the network its header names"):
        read_grader(tmp_path / "g.safetensors")


def test_the_papers_views_are_54_and_their_mean_is_told() -> None:
    discs, rows = made_discs(2), np.arange(2)
    views = list(VIEWS["paper"].of(discs, rows))
    assert len(views) == 54
    assert all(present[:, 4].all() for _, present, _ in views)
    assert not any(images[~present].any() for images, present, _ in views)
    (plain,) = VIEWS["plain"].of(discs, rows)
    assert any(torch.equal(plain[0], images) for images, _, _ in views)


def _narrowing_auc(shuffled: bool, folder: Path) -> float:
    discs = made_discs(80)
    if shuffled:
        np.random.default_rng(1).shuffle(discs.labels)
    learn, test = np.arange(48), np.arange(48, 80)
    recipe = Recipe(network={**TINY, "widths": [4, 6, 8, 8]}, epochs=8, batch=8, learning_rate=1e-2, teacher=0.0)
    grader = train(discs, learn, recipe, _session(folder))
    said = grading_run.said_by(grader, discs, test, VIEWS["plain"])["scores"]
    return auc(discs.labels[test, TARGETS.index("disc_narrowing")], said[:, LEARNED.index(Finding.DISC_NARROWING)])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_learns_what_is_seen_and_from_shuffled_labels_nothing(tmp_path: Path) -> None:
    assert _narrowing_auc(False, tmp_path / "true") > 0.9
    assert abs(_narrowing_auc(True, tmp_path / "shuffled") - 0.5) < 0.3


def test_the_loss_leaves_missing_labels_out() -> None:
    discs, rows = made_discs(6), np.arange(6)
    task = grading.weighted(discs, rows, Recipe(), smoothing=0.0)
    beyond = {f: torch.zeros(6, 4 if f is Finding.PFIRRMANN else 1) for f in LEARNED}
    beyond[Finding.PFIRRMANN] = torch.tensor([2.0, 1.0, -1.0, -2.0]).expand(6, 4)
    labels = torch.from_numpy(discs.labels)
    without = labels.clone()
    without[0] = -1
    counts = (labels != -1).sum(0) / 2
    parts = [task.share_of_loss({f: b[k::2] for f, b in beyond.items()}, labels[k::2], counts) for k in range(2)]
    torch.testing.assert_close(torch.stack(parts).mean(), task.loss(beyond, labels))
    torch.testing.assert_close(task.loss(beyond, without), task.loss({f: b[1:] for f, b in beyond.items()}, labels[1:]))


def test_a_run_says_what_it_was_made_of(tmp_path: Path) -> None:
    discs = made_discs(2)
    run_folder.write(tmp_path, discs, ("cpu",))
    other = replace(discs, labels=np.where(discs.labels == 1, 0, discs.labels))
    assert run_folder.digest(discs) == run_folder.digest(made_discs(2))
    assert run_folder.digest(discs) != run_folder.digest(other)
    assert run_folder.digest(discs) in (tmp_path / run_folder.RECORD).read_text()
