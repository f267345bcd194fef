"""Scores of evidence maps are those worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from inference.descriptors import FEATURES
from inference.discs import cut
from inference.grades import Basis, Finding, Grade
from inference.networks.grader import DiscGrader
from inference.networks.odds import LEARNED
from inference.report import Method
from inference.training import evidence_page, evidence_regions, evidence_sanity, evidence_scores
from inference.training.evidence_run import Scores
from inference.training.evidence_sanity import CurveRow, RandomisedRow
from inference.training.evidence_scores import BASELINE, Row, Stack
from inference.training.spider import MaskValue
from tests.spine_factory import DEPTH_MM, HEIGHT_MM, drawn_spine

PIXEL_MM = 0.32


def _mask(top: int = 46, bottom: int = 66, front: int = 56, back: int = 168) -> np.ndarray:
    """A disc of rows 46-65 and columns 56-167 on every slice, and a neighbour in the patch's corner."""
    mask = np.zeros((9, 112, 224), np.uint8)
    mask[:, top:bottom, front:back] = MaskValue.DISC
    mask[:, :8, :30] = MaskValue.DISC
    return mask


def test_regions_follow_the_disc_that_is_in_the_middle() -> None:
    regions = evidence_regions.expected(_mask(), PIXEL_MM)
    assert regions["disc"][4].sum() == 20 * 112
    rows = {name: np.flatnonzero(region[4, :, 100]) for name, region in regions.items()}
    assert (rows["upper end plate"][0], rows["upper end plate"][-1]) == (46 - 12, 46 + 12)  # 4 mm = 12.5 pixels
    assert (rows["lower end plate"][0], rows["lower end plate"][-1]) == (65 - 12, 65 + 12)
    assert (rows["bone above"][0], rows["bone above"][-1]) == (46 - 31, 45)  # 10 mm = 31.25 pixels
    assert (rows["bone below"][0], rows["bone below"][-1]) == (66, 65 + 31)
    columns = np.flatnonzero(regions["disc's back edge"][4].any(axis=0))
    assert (columns[0], columns[-1]) == (156 - 15, 167 + 15)  # the last tenth of its columns, and 5 mm about it
    assert not regions["upper end plate"][4][:, 20].any()


def test_a_patch_without_a_disc_in_its_middle_has_no_regions() -> None:
    assert evidence_regions.expected(_mask(top=0, bottom=4), PIXEL_MM) == {}


def test_the_mask_is_sampled_where_the_disc_was_cut() -> None:
    drawn = drawn_spine(tilt_deg=20)
    disc = cut(drawn.volume, drawn.spine)[1]
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in drawn.volume.voxels.shape), indexing="ij"), -1)
    inverse = np.linalg.inv(disc.patch_to_patient)
    place = drawn.volume.to_patient(grid[4]) @ inverse[:3, :3].T + inverse[:3, 3]
    mask = np.zeros(drawn.volume.voxels.shape, np.uint8)
    mask[4] = np.where((place[..., 1] < 30) & (place[..., 2] > 100), MaskValue.VERTEBRA, 0)
    sampled = evidence_regions.mask_in_patch(mask, drawn.volume, disc)
    assert sampled[4, 5:28, 105:200].min() == MaskValue.VERTEBRA
    assert sampled[4, 33:, :].max() == 0
    assert sampled[3].max() == 0


def test_cells_say_which_share_of_them_is_inside() -> None:
    region = np.zeros((9, 112, 224), bool)
    region[0, 0:2, 0:4] = True
    assert evidence_regions.in_cells(region)[0, 0, :2].tolist() == [0.5, 0]


def test_pointing_and_energy_of_a_small_map() -> None:
    cells = np.array([[[1.0, 3.0], [0.0, 4.0]]])
    region = np.array([[[0.0, 1.0], [0.0, 0.25]]])
    assert evidence_scores.points_into(cells, region) == 0
    assert evidence_scores.points_into(np.minimum(cells, 3), region) == 0.5  # two largest cells, one inside
    assert evidence_scores.energy_in(cells, region) == (3 + 1) / 8
    assert evidence_scores.energy_in(np.zeros((1, 2, 2)), region) == 0


def test_the_interval_is_by_patient() -> None:
    mean, low, high = evidence_scores.by_patient([1, 1, 1, 0], [7, 7, 7, 8])
    assert mean == 0.75
    assert (low, high) == (0, 1)
    assert evidence_scores.by_patient([0.5, 0.5], [1, 2]) == (0.5, 0.5, 0.5)


def test_rank_correlation_of_maps() -> None:
    one = np.arange(1.0, 9.0).reshape(1, 1, 2, 2, 2).astype(np.float32)
    assert evidence_sanity.mean_rank_correlation(one, one**2) == pytest.approx(1)
    assert evidence_sanity.mean_rank_correlation(one, 9 - one) == pytest.approx(-1)
    assert np.isnan(evidence_sanity.mean_rank_correlation(one, np.zeros_like(one)))


def test_a_good_map_lies_below_random_deletion_and_above_random_insertion() -> None:
    row = CurveRow(
        map="m",
        finding=Finding.PFIRRMANN,
        patient=1,
        deletion=np.array([1.0, 0.0]),
        deletion_random=np.array([2.0, 2.0]),
        insertion=np.array([3.0, 3.0]),
        insertion_random=np.array([1.0, 2.0]),
    )
    assert evidence_sanity.gains(row) == (1.5, 1.5)


class _BrightnessOfTheMiddle(DiscGrader):
    """Its scores are the mean of the mid-slice over the disc's middle."""

    def __init__(self) -> None:
        super().__init__(features=FEATURES, slice_weights=(0, 0, 0, 0, 1, 0, 0, 0, 0), widths=(2, 2, 2, 2), hidden=2)

    def forward(self, images: torch.Tensor, slice_present: torch.Tensor, zones: torch.Tensor) -> torch.Tensor:
        return images[:, 4, 50:62, 90:134].mean((1, 2))[:, None].expand(-1, len(LEARNED))


def _stack() -> Stack:
    drawn = drawn_spine()
    disc_volumes = cut(drawn.volume, drawn.spine)
    said = {f: Grade(value=5, probabilities={}, basis=Basis.LEARNED) for f in LEARNED}
    return Stack(
        patient=1,
        disc_volumes=disc_volumes[:1],
        grades=(said,),
        regions=({},),
        missed=0,
    )


def test_deletion_blurs_what_the_map_shows() -> None:
    """Inside the disc blurring lets the bright bone in: the score rises, once the disc's cells are blurred."""
    stack = _stack()
    disc = np.zeros((len(LEARNED), 1, 9, 28, 56), np.float32)
    disc[:, 0, 4, 10:18, 14:42] = 1
    chance = np.random.default_rng(0)
    rows = list(evidence_sanity.curves(stack, {Method.GRADIENT_SALIENCY: disc}, _BrightnessOfTheMiddle(), chance))
    assert {row.map for row in rows} == {Method.GRADIENT_SALIENCY.value, BASELINE}
    row = rows[0]
    before = stack.disc_volumes[0].voxels[4, 50:62, 90:134].mean()
    assert row.deletion[-1] > before + 0.02
    assert row.insertion[-1] == pytest.approx(before, abs=0.01)
    assert row.insertion[0] > before + 0.02


def test_randomisation_spoils_a_copy_from_the_last_layer_down() -> None:
    torch.manual_seed(0)
    grader = DiscGrader(
        features=FEATURES, slice_weights=(0, 0, 0, 0, 1, 0, 0, 0, 0), widths=(4, 6, 8, 8), hidden=8
    ).eval()
    before = {name: value.clone() for name, value in grader.state_dict().items()}
    stack = _stack()
    maps = {Method.GRADIENT_SALIENCY: np.ones((len(LEARNED), 1, 9, 28, 56), np.float32)}
    rows = list(evidence_sanity.randomise(stack, maps, grader))
    assert [row.layer for row in rows][:2] == ["last layers", "branches"]
    assert [row.layer for row in rows][-2:] == ["trunk block 1", "first layer"]
    for name, value in grader.state_dict().items():
        torch.testing.assert_close(value, before[name], equal_nan=True)


def _scores(**by_method: tuple[float, float, float]) -> Scores:
    """Method -> energy everywhere, deletion and insertion gain, rank correlation at the end."""
    zero = np.zeros(len(evidence_sanity.FRACTIONS))
    row = Row(map="", finding=Finding.PFIRRMANN, patient=1, abnormal=True, pointing=0, energy=0)
    curve = CurveRow(
        map="",
        finding=Finding.PFIRRMANN,
        patient=1,
        deletion=zero,
        deletion_random=zero,
        insertion=zero,
        insertion_random=zero,
    )
    scores = Scores()
    for name, (energy, gain, alike) in by_method.items():
        label = BASELINE if name == "baseline" else Method[name].value
        scores.located.extend(
            replace(row, map=label, finding=finding, energy=energy) for finding in evidence_regions.REGIONS
        )
        scores.curves.append(replace(curve, map=label, deletion=zero - gain, insertion=zero + gain))
        if name != "baseline":
            scores.randomised.append(RandomisedRow(map=label, layer="first layer", patient=1, rank_correlation=alike))
    return scores


def test_the_best_method_is_the_best_placed_of_those_that_pass_the_sanity_checks() -> None:
    placed_worse = dict.fromkeys(("CONTRASTIVE_EXCITATION", "GRADIENT_IN_EXCITATION"), (0.4, 0.9, 0.2))
    others = {"EXCITATION_BACKPROPAGATION": (0.5, 0.9, 0.2), **placed_worse}
    fails_deletion, fails_randomisation = (0.9, 0.1, 0.2), (0.9, 0.9, 0.8)
    scores = _scores(
        GRADIENT_SALIENCY=fails_deletion, GUIDED_BACKPROPAGATION=fails_randomisation, baseline=(0.2, 0.5, 0), **others
    )
    assert evidence_page.best(scores) is Method.EXCITATION_BACKPROPAGATION


def test_no_method_is_the_best_where_none_passes() -> None:
    bad = dict.fromkeys((method.name for method in Method), (0.9, 0.1, 0.2))
    assert evidence_page.best(_scores(baseline=(0.2, 0.5, 0), **bad)) is None


def test_discs_are_kept_only_where_the_mask_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = drawn_spine()
    mask = np.zeros(drawn.volume.voxels.shape, np.uint8)
    center = drawn.volume.to_voxel(drawn.spine.discs[1].center_lps_mm).round().astype(int)
    half = int(HEIGHT_MM), int(DEPTH_MM)  # half sizes in pixels of 0.5 mm
    mask[:, center[1] - half[0] : center[1] + half[0], center[2] - half[1] : center[2] + half[1]] = MaskValue.DISC
    monkeypatch.setattr(evidence_scores.spider, "read_stack", lambda *_: drawn.volume)
    monkeypatch.setattr(evidence_scores.spider, "read_stack_mask", lambda *_: mask)
    monkeypatch.setattr(evidence_scores.detection, "find", lambda *_: None)
    monkeypatch.setattr(evidence_scores.labelling, "name", lambda _: drawn.spine)
    grader = DiscGrader(features=FEATURES, slice_weights=(0, 0, 0, 0, 1, 0, 0, 0, 0), widths=(2, 2, 2, 2), hidden=2)
    models = SimpleNamespace(localiser=None, grader=grader.eval())
    stack = evidence_scores.read(None, 1, models)  # type: ignore[arg-type]
    assert (len(stack.disc_volumes), stack.missed) == (1, 2)


def test_the_page_keeps_its_words_and_changes_its_figures(tmp_path: Path) -> None:
    both = dict.fromkeys((method.name for method in Method), (0.4, 0.9, 0.2))
    scores = _scores(baseline=(0.2, 0.5, 0), **both)
    for finding in evidence_regions.REGIONS:
        scores.mean_regions[finding] = np.eye(28, 56)
        for method in Method:
            scores.mean_maps[method, finding] = np.eye(28, 56)
    scores.discs.append(7)
    scores.missed.append(1)
    page = tmp_path / "evidence.md"
    page.write_text(f"# Before\n\n{evidence_page.START}old{evidence_page.END}\n\nAfter\n", encoding="utf-8")
    text = evidence_page.write(scores, tmp_path, "heading")
    written = page.read_text(encoding="utf-8")
    assert written.startswith("# Before")
    assert written.endswith("After\n")
    assert "old" not in written
    assert text in written
    assert "1 stacks, 7 discs" in text
    assert "| excitation backpropagation | 0.90 (0.90 to 0.90) | 0.40 (0.40 to 0.40) |" in text
    assert (tmp_path / "evidence.png").stat().st_size > 10_000
