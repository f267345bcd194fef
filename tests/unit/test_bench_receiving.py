"""The figures of the benchmark of receiving: a slope and its interval, and a short soak with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench_receiving import associate, slope_with_interval
from tests.receiving import Receiver


def test_a_straight_line_has_its_slope_and_no_doubt() -> None:
    slope, half = slope_with_interval(np.arange(50.0), 80 + 0.25 * np.arange(50.0))
    assert slope == pytest.approx(0.25)
    assert half == pytest.approx(0, abs=1e-9)


def test_values_that_are_alike_tell_less_than_as_many_others_would() -> None:
    number = np.arange(200.0)
    size_mb = np.where(number < 90, 79.0, 79.3)
    slope, half = slope_with_interval(number, size_mb)
    left_over = size_mb - size_mb.mean() - slope * (number - number.mean())
    if_independent = 1.96 * np.std(left_over) / np.sqrt(200) / np.std(number)
    assert half > 2 * if_independent


@pytest.mark.slow
def test_a_thousand_associations_cost_no_memory(tmp_path: Path) -> None:
    """The whole run is ``python -m tests.bench_receiving --associations 10000``."""
    with Receiver(tmp_path) as receiver:
        for number in range(300):
            associate(receiver.port, number)
        threads, rss_mb = receiver.threads, receiver.rss_mb
        for number in range(300, 1000):
            associate(receiver.port, number)
        assert receiver.rss_mb < rss_mb + 1.5
        assert receiver.threads <= threads + 2, "the last association may still be ending"
        assert len(receiver.kept()) == 1000
