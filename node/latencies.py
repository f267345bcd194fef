"""Running totals for the monitoring: counters and histograms that only grow. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from node.records import DeliveryState, Recorded

BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 604800.0)
"""Upper bounds of the histograms: from a tenth of a second to the week after which a delivery is given up."""


@dataclass(kw_only=True, slots=True)
class Histogram:
    """How many durations fell below each bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    """One for each of ``BOUNDS_S``, the last for what is longer; not cumulative."""
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> Sequence[tuple[str, int]]:
        """(upper bound, how many durations are not longer), as Prometheus wants it."""
        total, pairs = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            pairs.append((bound, total))
        return pairs

    def copy(self) -> Histogram:
        return Histogram(counts=list(self.counts), sum_s=self.sum_s)


@dataclass(kw_only=True, slots=True)
class Totals:
    """What has happened since the ledger began."""

    received: Counter[Recorded] = field(default_factory=Counter)
    received_bytes: int = 0
    stages: dict[str, Histogram] = field(default_factory=dict)
    turnaround: Histogram = field(default_factory=Histogram)
    changes: Counter[tuple[str, DeliveryState]] = field(default_factory=Counter)
    """(archive, state) -> how often a delivery came into the state."""
    arrivals: dict[str, Histogram] = field(default_factory=dict)
    """Archive -> seconds from the listing of a result to its arrival."""

    def copy(self) -> Totals:
        return Totals(
            received=Counter(self.received),
            received_bytes=self.received_bytes,
            stages=_copied(self.stages),
            turnaround=self.turnaround.copy(),
            changes=Counter(self.changes),
            arrivals=_copied(self.arrivals),
        )


def _copied(histograms: Mapping[str, Histogram]) -> dict[str, Histogram]:
    return {name: histogram.copy() for name, histogram in histograms.items()}
