"""A map points at the place in the patient that moved the score, however the source images are stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from inference.descriptors import FEATURES
from inference.discs import cut
from inference.evidence import explain, in_cells
from inference.grades import Basis, Finding, Grade
from inference.networks.ensemble import Ensemble
from inference.networks.family import GradingNetwork
from inference.networks.grader import DiscGrader
from inference.networks.odds import LEARNED, MARROW
from inference.networks.variants import VARIANTS
from inference.report import EvidenceMap, Method
from inference.volume import SagittalVolume
from tests.spine_factory import Drawn, drawn_spine, flipped

SPOT = (4, 80, 150)
"""(slice, row, column) of the patch that the stub network looks at."""


class _LooksAtOneSpot(DiscGrader):
    def __init__(self, spot: tuple[int, int, int] = SPOT) -> None:
        super().__init__(features=FEATURES, slice_weights=(1.0,) * 9)
        self.spot = spot

    def forward(self, images: torch.Tensor, slice_present: torch.Tensor, zones: torch.Tensor) -> torch.Tensor:
        k, row, column = self.spot
        score = images[:, k, row - 2 : row + 3, column - 2 : column + 3].sum((1, 2))
        return score[:, None] * torch.arange(len(LEARNED))


def _grades() -> dict[Finding, Grade]:
    learned = {f: Grade(value=1, probabilities={0: 0.2, 1: 0.8}, basis=Basis.LEARNED) for f in LEARNED}
    measured = Grade(value=1, probabilities={}, basis=Basis.MEASURED, criterion="drawn")
    return {**learned, Finding.CENTRAL_CANAL_STENOSIS: measured}


def _maps(
    drawn: Drawn, network: DiscGrader, method: Method = Method.GRADIENT_SALIENCY
) -> tuple[tuple[EvidenceMap, ...], ...]:
    discs = cut(drawn.volume, drawn.spine)
    return explain(drawn.volume, discs, network, [_grades()] * len(discs), method)


def _hottest_lps_mm(volume: SagittalVolume, found: EvidenceMap) -> np.ndarray:
    peak = np.argwhere(found.values > 0.9).mean(axis=0)
    return volume.to_patient(peak + found.first_voxel)


@pytest.mark.parametrize("tilt_deg", [0.0, 25.0])
@pytest.mark.parametrize("stored", [lambda drawn: drawn, flipped], ids=["upright", "flipped"])
def test_the_hot_spot_is_where_the_network_looked(tilt_deg: float, stored) -> None:  # type: ignore[no-untyped-def]
    drawn = stored(drawn_spine(tilt_deg=tilt_deg))
    discs = cut(drawn.volume, drawn.spine)
    for disc, maps in zip(discs, _maps(drawn, _LooksAtOneSpot()), strict=True):
        wanted = (disc.patch_to_patient @ [*SPOT, 1])[:3]
        assert np.linalg.norm(_hottest_lps_mm(drawn.volume, maps[-1]) - wanted) < 1.0


def test_a_map_covers_only_the_slices_that_were_looked_at() -> None:
    drawn = drawn_spine()
    (found, *_) = _maps(drawn, _LooksAtOneSpot())[1]
    assert found.first_voxel[0] == drawn.spine.discs[1].slice_index
    assert found.values.shape[0] == 1


def test_between_the_taken_slices_of_a_thin_stack_the_map_fades() -> None:
    drawn = drawn_spine(slices=21, slice_step_mm=1.0)
    network = _LooksAtOneSpot((4, 80, 150))
    maps = _maps(drawn, network)[1]
    assert maps[0].values.shape[0] == 1


def test_a_map_is_scaled_to_one_and_lies_within_the_volume() -> None:
    drawn = drawn_spine()
    for maps in _maps(drawn, _LooksAtOneSpot()):
        for found in maps:
            assert found.method is Method.GRADIENT_SALIENCY
            assert found.values.dtype == np.float32
            assert found.values.max() == 1
            assert found.values.min() >= 0
            last = np.add(found.first_voxel, found.values.shape)
            assert (np.array(found.first_voxel) >= 0).all()
            assert (last <= drawn.volume.voxels.shape).all()


def test_measured_grades_and_scores_without_gradient_have_no_map() -> None:
    maps = _maps(drawn_spine(), _LooksAtOneSpot())[1]
    findings = [found.finding for found in maps]
    assert Finding.CENTRAL_CANAL_STENOSIS not in findings
    assert findings == list(LEARNED[1:])  # the stub multiplies the first finding's score by 0


def test_explaining_leaves_no_gradients_behind() -> None:
    network = DiscGrader(features=FEATURES, slice_weights=(0, 0, 0, 0, 1, 0, 0, 0, 0)).eval()
    _maps(drawn_spine(), network)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_no_discs_need_no_explaining() -> None:
    assert explain(drawn_spine().volume, [], _LooksAtOneSpot(), []) == ()


TRAINED_WEIGHTS = (0, 0, 0, 0.25, 0.5, 0.25, 0, 0, 0)


def _network() -> DiscGrader:
    torch.manual_seed(1)
    return DiscGrader(features=FEATURES, slice_weights=TRAINED_WEIGHTS, widths=(4, 6, 8, 8), hidden=8).eval()


@pytest.mark.parametrize("method", Method)
def test_every_method_explains_every_learned_grade_within_the_volume(method: Method) -> None:
    drawn = drawn_spine()
    for maps in _maps(drawn, _network(), method):
        assert [found.finding for found in maps] == list(LEARNED)
        for found in maps:
            assert found.method is method
            assert found.values.max() == 1
            assert found.values.min() >= 0
            assert found.values.shape[0] <= 3  # the slices that weigh anything
            assert (np.add(found.first_voxel, found.values.shape) <= drawn.volume.voxels.shape).all()


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("variant", ["slices_as_channels", "slices_pooled", "volumetric", "ensemble"])
def test_every_network_of_the_family_can_be_explained_by_every_method(variant: str, method: Method) -> None:
    """2-D with slices as channels or pooled, 3-D, and several by regions together, on whole and on lone slices."""
    torch.manual_seed(3)
    network: GradingNetwork
    if variant == "ensemble":
        network = Ensemble([_network(), _network()]).eval()
    else:
        network = VARIANTS[variant](features=FEATURES, width=0.03).eval()
    drawn = drawn_spine()
    disc = cut(drawn.volume, drawn.spine)[0]
    lone = replace(disc, slice_present=np.arange(9) == 4)
    cells = in_cells([disc, lone], network, [_grades()] * 2, method)
    assert cells.shape == (len(LEARNED), 2, 9, 28, 56)
    assert (cells >= 0).all()
    assert (cells.sum(axis=(2, 3, 4)) > 0).mean() > 0.8  # an untrained score may be excited by nothing
    assert cells[:, 1, [0, 1, 2, 3, 5, 6, 7, 8]].sum() == 0


@pytest.mark.parametrize("method", Method)
def test_a_marrow_grade_is_explained_by_the_score_of_its_side(method: Method) -> None:
    """Training may leave every change to one branch. Both branches judge both sides, so each side is explained."""
    network = _network()
    with torch.no_grad():
        silent: nn.Linear = network.branches[LEARNED.index(Finding.UPPER_MARROW_CHANGE)].out  # type: ignore[assignment,union-attr]
        silent.weight.zero_()
        heard: nn.Linear = network.branches[LEARNED.index(Finding.LOWER_MARROW_CHANGE)].out  # type: ignore[assignment,union-attr]
        heard.weight.abs_()
    drawn = drawn_spine()
    disc = cut(drawn.volume, drawn.spine)[0]
    upper, lower = in_cells([disc], network, [_grades()], method)[[LEARNED.index(finding) for finding in MARROW], 0]
    for own, other in ((upper, lower), (lower, upper)):
        assert own.sum() > 0
        assert np.abs(own / own.sum() - other / other.sum()).sum() > 0.5


def test_what_is_explained_of_the_marrow_is_what_says_the_side() -> None:
    torch.manual_seed(2)
    batch = torch.rand(2, 9, 112, 224), torch.ones(2, 9, dtype=torch.bool), torch.randint(0, 9, (2, 112, 224))
    network = _network()
    with torch.no_grad():
        explained = network(*batch)[:, [LEARNED.index(finding) for finding in MARROW]]
        torch.testing.assert_close(explained, network.look(*batch).sides)


def test_the_gradient_within_excitation_is_the_product_of_both() -> None:
    drawn, network = drawn_spine(), _network()
    discs = cut(drawn.volume, drawn.spine)
    gradient, excited, both = (
        in_cells(discs, network, [_grades()] * len(discs), method)
        for method in (Method.GRADIENT_SALIENCY, Method.CONTRASTIVE_EXCITATION, Method.GRADIENT_IN_EXCITATION)
    )
    product = gradient * excited
    scale = product.max(axis=(2, 3, 4), keepdims=True)
    np.testing.assert_allclose(both / both.max(axis=(2, 3, 4), keepdims=True), product / scale, atol=1e-4)


@pytest.mark.parametrize("method", Method)
def test_discs_explained_together_are_explained_as_if_alone(method: Method) -> None:
    drawn, network = drawn_spine(), _network()
    discs = cut(drawn.volume, drawn.spine)
    together = in_cells(discs[:2], network, [_grades()] * 2, method)
    alone = in_cells(discs[1:2], network, [_grades()], method)
    np.testing.assert_allclose(together[:, 1:2], alone, atol=1e-4 * alone.max())


def test_all_excitation_of_a_grade_is_on_its_map() -> None:
    """Up to what smoothing loses at the patch's border."""
    drawn = drawn_spine()
    discs = cut(drawn.volume, drawn.spine)
    cells = in_cells(discs, _network(), [_grades()] * 3, Method.EXCITATION_BACKPROPAGATION)
    np.testing.assert_allclose(cells.sum(axis=(2, 3, 4)), 1, atol=0.05)


def test_a_finding_is_excited_only_where_it_is_looked_for() -> None:
    """Architecture, not learning: marrow above the disc cannot be excited from below it."""
    drawn = drawn_spine()
    disc = cut(drawn.volume, drawn.spine)[0]
    cells = in_cells([disc], _network(), [_grades()], Method.EXCITATION_BACKPROPAGATION)[:, 0, 4]
    upper, lower = (cells[LEARNED.index(f)] for f in (Finding.UPPER_MARROW_CHANGE, Finding.LOWER_MARROW_CHANGE))
    assert upper[:14].sum() > 0.99 * upper.sum() > 0.4
    assert lower[14:].sum() > 0.99 * lower.sum() > 0.4


def test_a_normal_and_an_abnormal_grade_are_explained_by_opposite_evidence() -> None:
    drawn = drawn_spine()
    disc = cut(drawn.volume, drawn.spine)[0]
    normal = {finding: replace(grade, value=0) for finding, grade in _grades().items()}
    abnormal = {finding: replace(grade, value=5) for finding, grade in _grades().items()}
    network = _network()
    for method in (Method.EXCITATION_BACKPROPAGATION, Method.CONTRASTIVE_EXCITATION, Method.GUIDED_BACKPROPAGATION):
        one, other = (in_cells([disc], network, [said], method) for said in (normal, abnormal))
        assert np.abs(one - other).max() > 0.1 * one.max()
    one, other = (in_cells([disc], network, [said], Method.GRADIENT_SALIENCY) for said in (normal, abnormal))
    np.testing.assert_array_equal(one, other)


class _SmallMemory(DiscGrader):
    """Holds one disc at a time."""

    def forward(self, images: torch.Tensor, slice_present: torch.Tensor, zones: torch.Tensor) -> torch.Tensor:
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images, slice_present, zones)


def test_after_running_out_of_memory_the_maps_are_the_same() -> None:
    network = _network()
    small = _SmallMemory(features=FEATURES, slice_weights=TRAINED_WEIGHTS, widths=(4, 6, 8, 8), hidden=8).eval()
    small.load_state_dict(network.state_dict())
    drawn = drawn_spine()
    discs = cut(drawn.volume, drawn.spine)
    grades = [_grades()] * len(discs)
    one, other = (in_cells(discs, each, grades, Method.GUIDED_BACKPROPAGATION) for each in (network, small))
    np.testing.assert_allclose(one, other, atol=1e-4 * one.max())
