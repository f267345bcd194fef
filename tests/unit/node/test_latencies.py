"""Histograms as Prometheus wants them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.latencies import BOUNDS_S, Histogram, Totals


def test_a_duration_falls_into_the_first_bucket_that_is_not_too_small() -> None:
    histogram = Histogram()
    for seconds in (0.1, 0.11, 4.0, 1e9):
        histogram.add(seconds)

    counts = dict(histogram.cumulative())
    assert (counts["0.1"], counts["0.25"], counts["2.5"], counts["5.0"], counts["604800.0"], counts["+Inf"]) == (
        1,
        2,
        2,
        3,
        3,
        4,
    )


@given(st.lists(st.floats(min_value=0, max_value=1e7)))
def test_buckets_never_fall_and_the_last_one_holds_all(durations: list[float]) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    counts = [count for _, count in histogram.cumulative()]

    assert counts == sorted(counts)
    assert len(counts) == len(BOUNDS_S) + 1
    assert counts[-1] == len(durations)


def test_a_copy_goes_its_own_way() -> None:
    totals = Totals()
    totals.stages["grading"] = Histogram()
    copy = totals.copy()
    copy.stages["grading"].add(1.0)
    copy.received_bytes += 1

    assert totals == Totals(stages={"grading": Histogram()})
