"""A map points at the place in the patient that moved the score, however the source images are stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.descriptors import FEATURES
from inference.discs import cut
from inference.evidence import explain
from inference.grades import Basis, Finding, Grade
from inference.networks.grader import LEARNED, DiscGrader
from inference.report import EvidenceMap, Method
from inference.volume import SagittalVolume
from tests.spine_factory import Drawn, drawn_spine, flipped

SPOT = (4, 80, 150)
"""(slice, row, column) of the patch that the stub network looks at."""


class _LooksAtOneSpot(DiscGrader):
    def __init__(self, spot: tuple[int, int, int] = SPOT) -> None:
        super().__init__(features=FEATURES, slice_weights=(1.0,) * 9)
        self.spot = spot

    def forward(self, images: torch.Tensor, slice_present: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        k, row, column = self.spot
        score = images[:, k, row - 2 : row + 3, column - 2 : column + 3].sum((1, 2))
        no_features = 0 * torch.nan_to_num(features).sum(1)
        return (score + no_features)[:, None] * torch.arange(len(LEARNED))


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
