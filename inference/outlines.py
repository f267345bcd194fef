"""Traces discs, the thecal sac and vertebral bodies on one plane of marks, finer than its pixels.

Knows nothing of slices, patients or levels. All lengths in mm, points (row, column), front is towards column 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.chain import Candidate
from inference.marks import Plane, Tissue
from inference.volume import FloatArray

EDGE = 0.5
"""Probability that bounds a structure."""
STATION_MM = 1.5
"""Distance between the places along a disc where its upper and lower edge are read."""
PROFILE_MM = np.arange(-15.0, 15.01, 0.5)
"""Where a profile across the disc is read."""
WANDER_MM = 3.0
"""How far the middle of a disc may move from one station to the next; more is another structure."""
REACH_MM = 36.0
"""A disc is followed at least so far from where it was seen best: of a collapsed disc that may be one end."""
GAP_STATIONS = 7
"""A collapsed disc may be too thin to be marked for so many stations less one, and go on behind them..."""
FAINT = 0.08
"""...where the marks in between do not fall below this."""
CANAL_REACH_MM = 35.0
CANAL_START_MM = 15.0
"""The sac's front wall lies within this distance behind the disc, its back wall within ``CANAL_REACH_MM``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedDisc:
    """A disc's outline and mid-line on one plane."""

    outline_mm: FloatArray
    """(n, 2), not closed: upper edge front to back, then lower edge back to front."""
    upper_edge_mm: FloatArray
    """(stations, 2) front to back."""
    lower_edge_mm: FloatArray
    """(stations, 2) front to back."""
    anterior_mm: FloatArray
    posterior_mm: FloatArray

    @property
    def along(self) -> FloatArray:
        """(2,) unit vector front to back."""
        step = self.posterior_mm - self.anterior_mm
        unit: FloatArray = step / np.linalg.norm(step)
        return unit


def trace_disc(plane: Plane, disc: Candidate) -> TracedDisc | None:
    """Follow the disc outwards from its centre, station by station; None where it is not on this plane."""
    reach = int(np.ceil(max(0.75 * disc.width_mm + 6, REACH_MM) / STATION_MM))
    stations = np.arange(-reach, reach + 1)
    points = (
        disc.center_mm + (stations * STATION_MM)[:, None, None] * disc.along + PROFILE_MM[None, :, None] * disc.down
    )
    profiles = plane.sample(Tissue.DISC, points)
    start = _run_nearest(profiles[reach], 0.0)
    if start is None:
        return None
    runs = {0: start}
    for direction in (-1, 1):
        outwards = profiles[reach:] if direction > 0 else profiles[reach::-1]
        runs |= {direction * at: run for at, run in _followed(outwards, start).items()}
    if len(runs) < 5:
        return None
    return _assembled(plane, disc, runs)


def _followed(profiles: FloatArray, start: tuple[float, float]) -> dict[int, tuple[float, float]]:
    """Station -> ends (mm) of the disc's run, from the second profile on for as long as the disc goes on."""
    runs, at = {0: start}, 1
    while at < len(profiles):
        run = _run_nearest(profiles[at], sum(runs[at - 1]) / 2)
        if run is None:
            landing = _across_gap(profiles, at, sum(runs[at - 1]) / 2)
            if landing is None:
                break
            far, run = landing
            for between in range(at, far):
                share = (between - at + 1) / (far - at + 1)
                low, high = ((1 - share) * near + share * there for near, there in zip(runs[at - 1], run, strict=True))
                runs[between] = (low, high)
            at = far
        runs[at] = run
        at += 1
    return runs


def _across_gap(profiles: FloatArray, at: int, middle: float) -> tuple[int, tuple[float, float]] | None:
    """Where the disc goes on behind a gap at station ``at``, and its run there; None where it does not."""
    near = np.abs(PROFILE_MM - middle) <= WANDER_MM
    for far in range(at + 1, min(at + GAP_STATIONS, len(profiles) - 1)):
        if profiles[far - 1, near].max() < FAINT:
            return None
        run = _run_nearest(profiles[far], middle)
        if run is not None and _run_nearest(profiles[far + 1], sum(run) / 2) is not None:
            return far, run
    return None


def trace_canal(plane: Plane, disc: TracedDisc) -> FloatArray | None:
    """(2, 2) front and back wall of the thecal sac on the prolonged mid-line; None where it is not seen."""
    along = np.arange(0.0, CANAL_REACH_MM, 0.25)
    profile = plane.sample(Tissue.CANAL, disc.posterior_mm - 3 * disc.along + along[:, None] * disc.along)
    above = profile > EDGE
    if not above.any():
        return None
    front = int(np.argmax(above))
    behind = np.flatnonzero(~above[front:])
    if front == 0 or along[front] > CANAL_START_MM + 3 or not len(behind):
        return None
    back = front + int(behind[0])
    if along[back] - along[front] < 2.0:
        return None
    walls = [_crossing(along, profile, front - 1), _crossing(along, profile, back - 1)]
    return np.stack([disc.posterior_mm + (wall - 3) * disc.along for wall in walls])


def trace_body(plane: Plane, upper: TracedDisc, lower: TracedDisc) -> FloatArray:
    """(4, 2) corners of the body between two discs: superior anterior, superior posterior, inferior p., inferior a."""
    superior = endplate(plane, upper, beneath=True)
    inferior = endplate(plane, lower, beneath=False)
    return np.stack([superior[0], superior[1], inferior[1], inferior[0]])


def endplate(plane: Plane, disc: TracedDisc, *, beneath: bool, tissue: Tissue = Tissue.VERTEBRA) -> FloatArray:
    """(2, 2) front and back end of the endplate that borders a disc from beneath or from above.

    The endplate's line is fitted through the disc's edge; its ends are where the vertebra ends 3 mm inside the body.
    At the back it may not pass the disc's own end by more than 3 mm: what lies further is a pedicle. S1's are the
    disc's own ends: its marks were drawn narrower than the bone, and end inside it.
    """
    edge = disc.lower_edge_mm if beneath else disc.upper_edge_mm
    inner = edge[len(edge) // 6 : len(edge) - len(edge) // 6]
    middle = inner.mean(axis=0)
    along = disc.along
    down = np.array([along[1], -along[0]]) * (1 if beneath else -1)
    slope = np.polyfit((inner - middle) @ along, (inner - middle) @ down, 1)[0]
    along = _unit(along + np.clip(slope, -0.35, 0.35) * down)
    inside = middle + 3.0 * down
    half = np.array([(disc.anterior_mm - middle) @ along, (disc.posterior_mm - middle) @ along])
    if tissue is Tissue.SACRUM:
        on_disc: FloatArray = middle + half[:, None] * along + 1.0 * down
        return on_disc
    ends = []
    for end, slack in zip(half, (6.0, 3.0), strict=True):
        steps = np.arange(0.0, abs(end) + slack + 0.25, 0.25)
        profile = plane.sample(tissue, inside + np.sign(end) * steps[:, None] * along)
        outside = np.flatnonzero((profile < EDGE) & (steps > 0.6 * abs(end)))
        reach = _crossing(steps, profile, max(int(outside[0]) - 1, 0)) if len(outside) else steps[-1]
        ends.append(middle + np.sign(end) * max(reach, 0.6 * abs(end)) * along + 1.0 * down)
    return np.stack(ends)


def _run_nearest(profile: FloatArray, middle: float) -> tuple[float, float] | None:
    """Ends (mm) of the run above ``EDGE`` nearest to ``middle``; None where it is further than ``WANDER_MM``."""
    above = np.concatenate(([False], profile > EDGE, [False])).astype(int)
    starts, ends = np.flatnonzero(np.diff(above) == 1), np.flatnonzero(np.diff(above) == -1) - 1
    best: tuple[float, float] | None = None
    least = WANDER_MM
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        low = _crossing(PROFILE_MM, profile, start - 1) if start > 0 else PROFILE_MM[0]
        high = _crossing(PROFILE_MM, profile, end) if end + 1 < len(profile) else PROFILE_MM[-1]
        away = max(low - middle, middle - high, 0.0)
        if away < least:
            least, best = away, (float(low), float(high))
    return best


def _crossing(at: FloatArray, profile: FloatArray, index: int) -> float:
    """Where between ``index`` and ``index`` + 1 the profile passes ``EDGE``, linearly."""
    first, second = profile[index], profile[index + 1]
    share = 0.5 if first == second else np.clip((EDGE - first) / (second - first), 0, 1)
    return float(at[index] + share * (at[index + 1] - at[index]))


def _assembled(plane: Plane, disc: Candidate, runs: dict[int, tuple[float, float]]) -> TracedDisc:
    stations = np.array(sorted(runs))
    edges = np.array([runs[station] for station in stations])
    base = disc.center_mm + (stations * STATION_MM)[:, None] * disc.along
    upper = base + edges[:, :1] * disc.down
    lower = base + edges[:, 1:] * disc.down
    middle = (upper + lower) / 2
    tips = [_tip(plane, middle[end], sign * disc.along) for end, sign in ((0, -1), (-1, 1))]
    center = middle.mean(axis=0)
    slope = np.polyfit((middle - center) @ disc.along, (middle - center) @ disc.down, 1)[0]
    along = _unit(disc.along + slope * disc.down)
    outline = np.concatenate((tips[0][None], upper, tips[1][None], lower[::-1]))
    return TracedDisc(
        outline_mm=outline,
        upper_edge_mm=upper,
        lower_edge_mm=lower,
        anterior_mm=center + ((tips[0] - center) @ along) * along,
        posterior_mm=center + ((tips[1] - center) @ along) * along,
    )


def _tip(plane: Plane, last: FloatArray, outwards: FloatArray) -> FloatArray:
    """Where the disc ends beyond its last station."""
    steps = np.arange(0.0, STATION_MM + 0.01, 0.25)
    profile = plane.sample(Tissue.DISC, last + steps[:, None] * outwards)
    outside = np.flatnonzero(profile < EDGE)
    reach = _crossing(steps, profile, max(int(outside[0]) - 1, 0)) if len(outside) else STATION_MM
    point: FloatArray = last + reach * outwards
    return point


def _unit(vector: FloatArray) -> FloatArray:
    unit: FloatArray = vector / np.linalg.norm(vector)
    return unit
