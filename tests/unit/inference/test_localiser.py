import pytest
import torch
from torch import nn

from inference.networks.localiser import Localiser, standardised
from inference.weights import fused


def test_every_pixel_gets_four_marks() -> None:
    network = Localiser().eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 64, 48)).shape == (2, 4, 64, 48)
    assert network.stride == 16


def test_one_slice_does_not_change_another() -> None:
    torch.manual_seed(0)
    network = Localiser(widths=(4, 8, 8)).eval()
    slices = torch.rand(3, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(slices)[1:2], network(slices[1:2]), atol=1e-5, rtol=1e-5)


def test_a_pixel_sees_further_than_a_vertebra_and_its_neighbours() -> None:
    """Whether a body is S1 shows in what lies about it, so the marks must depend on pixels 60 mm away."""
    torch.manual_seed(0)
    network = Localiser().eval()
    slices = torch.rand(1, 1, 192, 192, requires_grad=True)
    network(slices)[0, 3, 96, 96].backward()
    assert slices.grad is not None
    assert slices.grad[0, 0, 36:40].abs().sum() > 0


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (37.0, 500.0), (0.001, -2.0)])
def test_intensities_of_any_scale_look_the_same(gain: float, offset: float) -> None:
    torch.manual_seed(0)
    slices = torch.rand(2, 64, 64)
    torch.testing.assert_close(standardised(slices * gain + offset), standardised(slices), atol=2e-3, rtol=0)


def test_a_blank_slice_stays_finite() -> None:
    assert torch.isfinite(standardised(torch.full((1, 32, 32), 7.0))).all()


def test_folding_the_normalisation_keeps_the_function() -> None:
    torch.manual_seed(0)
    network = Localiser(widths=(4, 8, 8))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    slices = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        expected = network.eval()(slices)
        folded = fused(network)
        torch.testing.assert_close(folded(slices), expected, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
