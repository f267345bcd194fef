"""A trunk is taught without labels on the training's own patients, repeatably, and grading begins with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.networks.grader import DiscGrader
from inference.training import grading, loop, pretext
from inference.training.graded_series import DataSetError, GradedData, GradedSeries
from inference.training.grading import Session
from inference.training.lesson import Moment
from inference.training.parallel import Part
from inference.training.pretext import TASKS, Masked, Views
from inference.training.recipe import Recipe, RecipeError
from inference.training.unlabelled import UnlabelledDiscs, cut_all, load_or_cut
from inference.volume import SagittalVolume, Unsuitable
from inference.zones import Zone
from tests.spine_factory import drawn_spine
from tests.unit.inference.training.made_discs import made_discs

TINY = {"widths": [3, 4, 4, 4], "hidden": 4, "dropout": 0.0}
QUICK = Recipe(network=TINY, epochs=1, batch=4, pretrain="masked", pretrain_epochs=2)
TRUNK = "stem.1.weight"


def unlabelled(patients: int = 6, seed: int = 0) -> UnlabelledDiscs:
    """One disc per patient: the first one's is a stack of three slices."""
    chance = np.random.default_rng(seed)
    disc = np.array([0, 0, *range(patients)])
    disc.sort()
    zones = np.zeros((patients, 192, 320), np.uint8)
    zones[:, 84:108, 110:210] = Zone.DISC_MIDDLE
    return UnlabelledDiscs(
        slices=chance.integers(0, 255, (len(disc), 192, 320)).astype(np.uint8), disc=disc, zones=zones, patient=disc
    )


def session(folder: Path) -> Session:
    folder.mkdir(exist_ok=True)
    return Session(seed=5, log=folder / "fold0.csv", device="cpu", checkpoint_steps=2)


def begun(recipe: Recipe, folder: Path, discs: UnlabelledDiscs | None) -> torch.Tensor:
    """The first convolution that grading begins with, of a training on patients 0 to 3."""
    weights = grading._begun(made_discs(12), np.arange(8), recipe, session(folder), discs)
    return weights[TRUNK]


@pytest.mark.parametrize("task", list(TASKS))
def test_a_stopped_pretraining_ends_in_the_trunk_of_an_unstopped_one(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 epochs of a step each over 6 slices; the second is stopped, and learned when asked again."""
    recipe = replace(QUICK, pretrain=task)
    whole = begun(recipe, tmp_path / "whole", unlabelled())
    learn = loop.Loop._learn

    def stopped(self: loop.Loop) -> list[float]:
        if self.step == 1:
            raise KeyboardInterrupt
        return learn(self)

    monkeypatch.setattr(loop.Loop, "_learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        begun(recipe, tmp_path / "stopped", unlabelled())
    monkeypatch.setattr(loop.Loop, "_learn", learn)
    assert torch.equal(begun(recipe, tmp_path / "stopped", unlabelled()), whole)
    assert torch.equal(begun(recipe, tmp_path / "whole", unlabelled()), whole)  # all steps are done: nothing is learned
    log = (tmp_path / "whole" / "fold0_trunk.csv").read_text().splitlines()
    assert (log[0], len(log)) == (f"epoch,{TASKS[task].losses[0]}", 3)


def test_held_out_patients_are_not_looked_at(tmp_path: Path) -> None:
    """Discs 0-7 are of patients 0-3; other images of patients 4 and 5 change nothing, other images of patient 3 do."""
    discs = unlabelled()
    usual = begun(QUICK, tmp_path / "usual", discs)
    for patient, is_same in ((4, True), (5, True), (3, False)):
        slices = np.where((discs.patient == patient)[:, None, None], 255 - discs.slices, discs.slices)
        other = begun(QUICK, tmp_path / str(patient), replace(discs, slices=slices))
        assert torch.equal(other, usual) == is_same


def test_grading_begins_with_the_taught_trunk_and_with_its_usual_branches(tmp_path: Path) -> None:
    discs, rows = made_discs(12), np.arange(8)
    taught = grading._begun(discs, rows, QUICK, session(tmp_path), unlabelled())
    with_trunk = grading._loop(discs, rows, (QUICK, session(tmp_path), taught), Part()).lesson.network.state_dict()
    without = grading._loop(discs, rows, (QUICK, session(tmp_path), {}), Part()).lesson.network.state_dict()
    assert any(name.startswith("branches.") for name in without)
    for name, value in without.items():
        assert torch.equal(with_trunk[name], taught.get(name, value))
    assert not torch.equal(with_trunk[TRUNK], without[TRUNK])


def test_a_grader_is_trained_behind_it(tmp_path: Path) -> None:
    grader = grading.train(made_discs(12), np.arange(8), QUICK, session(tmp_path), unlabelled())
    assert isinstance(grader, DiscGrader)
    assert (tmp_path / "fold0_trunk.checkpoint").exists()


@pytest.mark.parametrize("there", [None, unlabelled(1)])
def test_without_discs_of_the_patients_there_is_no_pretraining(there: UnlabelledDiscs | None, tmp_path: Path) -> None:
    elsewhere = None if there is None else replace(there, patient=there.patient + 100)
    with pytest.raises(RecipeError, match="there are none of these patients"):
        begun(QUICK, tmp_path, elsewhere)


def test_it_is_for_the_network_by_regions_and_of_a_known_kind() -> None:
    with pytest.raises(RecipeError, match="for the variant regions alone"):
        Recipe(variant="volumetric", pretrain="masked")
    with pytest.raises(RecipeError, match="'jigsaw' is not known"):
        Recipe(pretrain="jigsaw")


def batch_of(
    task: str, discs: UnlabelledDiscs, rows: list[int], seed: int = 0, part: tuple[int, int] = (0, 1)
) -> pretext.Batch:
    moment = Moment(chance=np.random.default_rng(seed), recipe=QUICK, device="cpu", part=part, done=0.0)
    return pretext.Material(discs=discs, rows=np.array(rows), views=TASKS[task].views).batch(np.array(rows), moment)


def test_the_second_view_is_of_the_same_disc_maybe_of_the_slice_beside() -> None:
    """Disc 0's slices are white, disc 1's black: a view of another disc would have the other brightness."""
    discs = unlabelled(2)
    slices = np.zeros_like(discs.slices)
    slices[discs.disc == 0] = 255
    for seed in range(5):
        seen = batch_of("views", replace(discs, slices=slices), [0, 1, 2, 3], seed)
        assert seen.images.shape == (2, 4, 112, 224)
        assert seen.disc.tolist() == [0, 0, 0, 1]
        bright = seen.images.mean((2, 3))
        assert (bright[:, :3] > 0.5).all()
        assert (bright[:, 3] < 0.2).all()


def test_processes_share_a_batch() -> None:
    whole = batch_of("views", unlabelled(), [0, 3, 4, 5])
    for k in range(2):
        part = batch_of("views", unlabelled(), [0, 3, 4, 5], part=(k, 2))
        torch.testing.assert_close(part.images, whole.images[:, k::2])
        assert part.disc.tolist() == whole.disc.tolist()[k::2]


def network() -> DiscGrader:
    torch.manual_seed(0)
    return DiscGrader(**QUICK.config(["pfirrmann"]))


def test_only_what_is_painted_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one tile painted, the loss is the smooth L1 of that tile, in spreads of the slice about its mean."""
    seen = batch_of("masked", unlabelled(), [0, 3])
    painted = torch.zeros(2, 112, 224, dtype=torch.bool)
    painted[:, 16:32, 32:48] = True
    monkeypatch.setattr(pretext, "_painted", lambda _: painted)
    task = Masked(network(), torch.float32)
    task.decoder = torch.nn.Sequential(_Zeros())
    halved = torch.nn.functional.avg_pool2d(seen.images[0][:, None], 2)[:, 0]
    asked = (halved - halved.mean((1, 2), keepdim=True)) / halved.std((1, 2), keepdim=True)
    expected = torch.nn.functional.smooth_l1_loss(torch.zeros(2, 8, 8), asked[:, 8:16, 16:24])
    torch.testing.assert_close(task(seen)[0], expected)


class _Zeros(torch.nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(maps), 1, 56, 112)


def test_half_of_the_tiles_are_painted_each_whole() -> None:
    torch.manual_seed(0)
    painted = pretext._painted(torch.zeros(200, 112, 224))
    tiles = painted.reshape(200, 7, 16, 14, 16).float().mean((2, 4))
    assert set(tiles.unique().tolist()) == {0.0, 1.0}
    assert 0.48 < tiles.mean() < 0.52


def test_views_that_are_told_alike_cost_less_and_slices_of_one_disc_are_no_rivals() -> None:
    """Told by hand: each view its own direction, the same for both views of a disc."""
    seen = batch_of("views", unlabelled(), [0, 1, 4, 5])  # the first two are slices of one disc
    task = Views(network(), torch.float32)
    directions = torch.eye(64)

    def loss_of(first: list[int], second: list[int]) -> float:
        task.projection = torch.nn.Sequential(_Told(directions[first + second]))
        return float(task(seen)[0])

    told, mixed = loss_of([0, 0, 2, 3], [0, 0, 2, 3]), loss_of([0, 0, 2, 3], [3, 3, 0, 2])
    rivals = np.array([4, 4, 6, 6])  # of other discs in both views
    expected = np.mean(np.log1p(rivals * np.exp(-1 / pretext.TEMPERATURE)))
    assert told == pytest.approx(expected, rel=1e-4)
    assert mixed > told + 1


class _Told(torch.nn.Module):
    def __init__(self, told: torch.Tensor) -> None:
        super().__init__()
        self.told = told

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.told


DRAWN = drawn_spine()


def data(*series: GradedSeries, also: tuple[GradedSeries, ...] = ()) -> GradedData:
    return GradedData(root=Path(), series=series, patients={7: "7"}, files=(), unlabelled=also)


def spoilt() -> SagittalVolume:
    raise Unsuitable("spoilt")


def test_every_disc_that_is_found_is_cut_on_every_slice_with_or_without_labels(tmp_path: Path) -> None:
    drawn = GradedSeries(name="t2", patient=7, read=lambda: DRAWN.volume, labels={})
    one = replace(drawn, name="t1", patient=8, read=lambda: drawn_spine(slices=1).volume)
    bad = replace(drawn, name="bad", read=spoilt)
    spines = {7: DRAWN.spine, 8: drawn_spine(slices=1).spine}
    cut = load_or_cut(data(drawn, bad, also=(one,)), tmp_path / "a.npz", lambda _, patient: spines[patient], "digest")
    assert cut.slices.shape == (3 * 9 + 3, 192, 320)
    assert cut.disc.tolist() == [*[0] * 9, *[1] * 9, *[2] * 9, 3, 4, 5]
    assert cut.zones.shape == (6, 192, 320)
    assert cut.patient.tolist() == [7] * 27 + [8] * 3
    np.testing.assert_array_equal(
        cut.slices[4], cut.slices[27]
    )  # the middle slice of the stack is drawn as the lone one

    def never(volume: SagittalVolume, patient: int) -> object:
        raise AssertionError("cut again")

    again = load_or_cut(data(drawn, bad, also=(one,)), tmp_path / "a.npz", never, "digest")  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.slices, cut.slices)


def test_a_data_set_without_one_disc_is_refused() -> None:
    with pytest.raises(DataSetError, match="no disc was found"):
        cut_all(data(GradedSeries(name="bad", patient=7, read=spoilt, labels={})), lambda *_: DRAWN.spine)
