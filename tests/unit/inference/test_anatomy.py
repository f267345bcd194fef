"""Levels: discs lie between neighbouring vertebrae, in one chain from head to foot."""

from __future__ import annotations

import numpy as np
import pytest

from inference.anatomy import DiscLevel, Vertebra, VertebralBody


def test_discs_form_one_chain_without_gaps() -> None:
    levels = list(DiscLevel)
    assert [level.lower_vertebra for level in levels[:-1]] == [level.upper_vertebra for level in levels[1:]]


def test_every_disc_lies_between_neighbouring_vertebrae() -> None:
    order = list(Vertebra)
    for level in DiscLevel:
        assert order.index(Vertebra(level.lower_vertebra)) == order.index(Vertebra(level.upper_vertebra)) + 1


def test_the_lowest_disc_is_the_lumbosacral_one() -> None:
    assert list(DiscLevel)[-1] is DiscLevel.L5_S1
    assert DiscLevel.L5_S1 == "L5/S1"


def test_the_center_of_a_body_is_the_mean_of_its_corners() -> None:
    corners = np.array([[0.0, -10, 10], [0, 20, 10], [0, 20, -14], [0, -10, -14]])
    assert VertebralBody(level=Vertebra.L3, corners_lps_mm=corners).center_lps_mm == pytest.approx([0, 5, -2])
