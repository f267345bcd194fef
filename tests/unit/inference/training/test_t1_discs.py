"""T1 stands beside T2 only where both images show the same place, and a network that knows it does without it too."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.anatomy import Disc, Spine
from inference.networks.grader import DiscGrader
from inference.training import grading, grading_run, run_folder
from inference.training.disc_augmentation import Shown, batch, plain_batch
from inference.training.disc_cutting import cut_all
from inference.training.graded_series import DataSetError, GradedData, GradedSeries
from inference.training.grading import Session
from inference.training.gradings import GradedDiscs
from inference.training.recipe import Recipe, RecipeError
from inference.training.t1_discs import cut_t1, same_field, with_t1
from inference.training.views import VIEWS
from inference.volume import SagittalVolume
from tests.spine_factory import drawn_spine
from tests.unit.inference.training.made_discs import made_discs

DRAWN = drawn_spine(slices=1)
LEVELS = tuple(disc.level for disc in DRAWN.spine.discs)
T1_RECIPE = Recipe(network={"widths": [3, 4, 4, 4], "hidden": 4, "dropout": 0.0, "t1": True}, epochs=1, batch=3)


def localise(volume: SagittalVolume, patient: int) -> Spine:
    return DRAWN.spine


def t1_volume() -> SagittalVolume:
    """The drawn image with dark and bright exchanged."""
    return replace(DRAWN.volume, voxels=(1000 - DRAWN.volume.voxels).astype(np.float32))


def data(t1: SagittalVolume | None) -> GradedData:
    labels = {level: {"pfirrmann": 3} for level in LEVELS}
    series = GradedSeries(
        name="7_t2", patient=7, read=lambda: DRAWN.volume, labels=labels, t1=None if t1 is None else lambda: t1
    )
    return GradedData(root=Path(), series=(series,), patients={7: "7"}, files=())


def cut_of(source: GradedData) -> GradedDiscs:
    cut, _ = cut_all(source, lambda *_: replace(DRAWN.spine, discs=_sure()))
    assert cut is not None
    return cut


def _sure() -> tuple[Disc, ...]:
    return tuple(replace(disc, level_confidence=0.9) for disc in DRAWN.spine.discs)


def test_t1_is_cut_where_t2_was() -> None:
    """Exchanged brightness: bone is 600 on T1, 400 on T2, and is 0.25 on both; the disc is 100 and 900."""
    source = data(t1_volume())
    cut = cut_of(source)
    t1 = cut_t1(cut, source, localise)
    assert t1.shape == (3, 192, 320)
    middle = np.s_[:, 94:98, 155:165]
    np.testing.assert_allclose(cut.slices[middle], 255 * 0.25 * 100 / 400, atol=1)
    np.testing.assert_allclose(t1[middle], 255 * 0.25 * 900 / 600, atol=1)


def test_another_field_of_view_is_not_used() -> None:
    wider = replace(t1_volume(), voxel_to_patient=DRAWN.volume.voxel_to_patient * np.array([1, 1.1, 1.1, 1]))
    finer = np.repeat(np.repeat(t1_volume().voxels, 2, 1), 2, 2)
    halved = replace(
        t1_volume(), voxels=finer, voxel_to_patient=DRAWN.volume.voxel_to_patient * np.array([1, 0.5, 0.5, 1])
    )
    assert same_field(DRAWN.volume, halved)
    assert not same_field(DRAWN.volume, wider)
    assert not same_field(DRAWN.volume, drawn_spine(slices=3).volume)
    source = data(wider)
    with pytest.raises(DataSetError, match="no T1 image of the same field of view"):
        cut_t1(cut_of(source), source, localise)


def test_discs_that_were_cut_elsewhere_get_no_t1() -> None:
    source = data(t1_volume())
    other = replace(cut_of(source), slices=cut_of(source).slices + 1)
    with pytest.raises(DataSetError, match="cut by another version or localiser"):
        cut_t1(other, source, localise)


def test_what_was_cut_is_kept(tmp_path: Path) -> None:
    source = data(t1_volume())
    cut = cut_of(source)
    first = with_t1(cut, source, tmp_path / "t1.npz", localise, "digest")

    def never(volume: SagittalVolume, patient: int) -> Spine:
        raise AssertionError("cut again")

    again = with_t1(cut, source, tmp_path / "t1.npz", never, "digest")
    assert first.t1 is not None
    assert again.t1 is not None
    np.testing.assert_array_equal(first.t1, again.t1)
    assert run_folder.digest(first) != run_folder.digest(cut)


def discs() -> GradedDiscs:
    """Of six, two and three have a T1; all are bright."""
    t1 = np.zeros((6, 192, 320), np.uint8)
    t1[2:4] = 200
    return replace(made_discs(6), t1=t1)


def test_t1_lies_behind_the_mid_slice_of_the_discs_that_have_one() -> None:
    images, *_ = plain_batch(discs(), np.arange(6))
    without, *_ = plain_batch(made_discs(6), np.arange(6))
    assert images.shape == (6, 9, 2, 112, 224)
    assert torch.equal(images[:, :, 0], without)
    assert (images[2:4, 4, 1] == 200 / 255).all()
    images[2:4, 4, 1] = 0
    assert not images[:, :, 1].any()


def test_in_training_t1_is_moved_and_sometimes_hidden_and_t2_is_as_ever() -> None:
    rows, seen = np.arange(6), []
    for seed in range(8):
        images, *_ = batch(discs(), rows, np.random.default_rng(seed), Shown(t1_hidden=0.5))
        usual, *_ = batch(made_discs(6), rows, np.random.default_rng(seed))
        assert torch.equal(images[:, :, 0], usual)
        shown = images[:, :, 1].flatten(1).any(1)
        assert not shown[[0, 1, 4, 5]].any()
        seen.extend(shown[2:4].tolist())
    assert 0 < sum(seen) < 16
    always, *_ = batch(discs(), rows, np.random.default_rng(0))
    assert always[2:4, 4, 1].flatten(1).any(1).all()


def test_a_part_of_a_batch_shows_the_t1_of_the_whole() -> None:
    whole = batch(discs(), np.arange(6), np.random.default_rng(1), Shown(t1_hidden=0.3))[0]
    for k in range(2):
        part = batch(discs(), np.arange(6), np.random.default_rng(1), Shown(t1_hidden=0.3, part=(k, 2)))[0]
        torch.testing.assert_close(part, whole[k::2])


def test_a_network_that_knows_t1_takes_none_for_zeros_and_looks_at_it_where_it_is(tmp_path: Path) -> None:
    session = Session(seed=1, log=tmp_path / "fold0.csv", device="cpu")
    grader = grading.train(discs(), np.arange(6), T1_RECIPE, session)
    images, present, zones = plain_batch(discs(), np.arange(6))
    with torch.inference_mode():
        seen = grader(images, present, zones)
        alone = grader(images[:, :, 0], present, zones)
        zeros = grader(torch.stack([images[:, :, 0], torch.zeros_like(images[:, :, 0])], 2), present, zones)
    assert torch.equal(alone, zeros)
    torch.testing.assert_close(seen[[0, 1, 4, 5]], alone[[0, 1, 4, 5]])
    assert (seen[2:4] != alone[2:4]).any()
    assert {view[0].shape for view in VIEWS["shifted"].of(discs(), np.array([2]))} == {(1, 9, 2, 112, 224)}


@pytest.mark.slow
def test_learning_from_t1_on_two_threads_keeps_to_its_memory() -> None:
    """Where the allocator looks for damage: one convolution over both channels ended the process here."""
    program = """
import torch
from inference.networks.grader import DiscGrader
torch.set_num_threads(2)
middle = (0, 0, 0, 0, 1, 0, 0, 0, 0)
network = DiscGrader(features=("height",), slice_weights=middle, widths=(3, 4, 4, 4), hidden=4, t1=True)
present = torch.zeros(3, 9, dtype=torch.bool)
present[:, 4] = True
for _ in range(60):
    images, zones = torch.rand(3, 9, 2, 112, 224), torch.randint(0, 6, (3, 112, 224), dtype=torch.uint8)
    look = network.look(images, present, zones)
    (look.scores.sum() + look.summary.sum()).backward()
    others = [torch.rand(7 * size + 3) for size in range(50)]
"""
    watched = os.environ | {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    ended = subprocess.run([sys.executable, "-c", program], env=watched, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-500:]


def test_the_shipped_recipe_says_nothing_of_t1() -> None:
    """So that its weights' headers stay as they were."""
    network = DiscGrader(**Recipe().config(["pfirrmann"]))
    assert network.on_t1 is None
    assert "t1" not in network.config
    assert DiscGrader(**T1_RECIPE.config(["pfirrmann"])).config["t1"] is True


def test_t1_is_for_the_ablation_alone(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="grading hands its network no T1 image"):
        grading_run.run(data(None), tmp_path / "run", T1_RECIPE, ["cpu"])
    with pytest.raises(RecipeError, match="needs discs with their T1 images"):
        grading.train(made_discs(6), np.arange(6), T1_RECIPE, Session(seed=1, log=tmp_path / "a.csv", device="cpu"))
