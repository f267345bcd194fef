"""Measures the evidence methods stack by stack; what is measured is kept, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from inference import evidence
from inference.discs import SLICES
from inference.grades import Finding
from inference.networks.odds import LEARNED
from inference.report import Method
from inference.training import evidence_sanity
from inference.training.evidence_regions import REGIONS
from inference.training.evidence_sanity import CurveRow, RandomisedRow
from inference.training.evidence_scores import Row, Stack, locate, read
from inference.volume import FloatArray, VoxelArray
from inference.weights import Models

SANITY_STACKS = 3
"""Deletion and randomisation are looked at on so many stacks only: they cost a minute each."""
_CURVES = "deletion", "deletion_random", "insertion", "insertion_random"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """All rows of one evaluation."""

    located: list[Row] = field(default_factory=list)
    curves: list[CurveRow] = field(default_factory=list)
    randomised: list[RandomisedRow] = field(default_factory=list)
    mean_maps: dict[tuple[Method, Finding], FloatArray] = field(default_factory=dict)
    """(28, 56) mid-slice maps summed over discs, each scaled to sum to 1."""
    mean_regions: dict[Finding, FloatArray] = field(default_factory=dict)
    discs: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)
    """Per stack."""


def evaluate(
    root: Path, models: Models, patients: Sequence[int], kept: Path | None = None, sanity_stacks: int = SANITY_STACKS
) -> Scores:
    """Run everything: all patients for the places, the first ``sanity_stacks`` of them for the sanity checks.

    ``kept``: a folder that holds what was measured of each stack, by these weights and this code, and is read first.
    """
    parts = []
    for number, patient in enumerate(tqdm(patients, desc="stacks")):
        is_checked = number < sanity_stacks
        file = kept and kept / f"{patient}-{_digest(models, is_checked)}.npz"
        if file is None or not file.exists():
            part = _measured(read(root, patient, models), models, is_checked)
            if file is not None:
                store(part, file)
        else:
            part = load(file)
        parts.append(part)
    return merged(parts)


def _digest(models: Models, is_checked: bool) -> str:
    """Of all that a stack's figures hang on but the stack."""
    folder = Path(__file__).parent
    code = [*folder.glob("evidence_*.py"), folder.parent / "evidence.py"]
    code += [file for part in ("attribution", "networks") for file in (folder.parent / part).glob("*.py")]
    sources = [file.read_bytes() for file in sorted(code) if file.name != "evidence_page.py"]
    return hashlib.sha256(b"".join([models.identity.sha256.encode(), bytes([is_checked]), *sources])).hexdigest()[:12]


def _measured(stack: Stack, models: Models, is_checked: bool) -> Scores:
    whole = torch.ones(1, SLICES, dtype=torch.bool, device=models.grader.device)
    weights = np.asarray(models.grader.slice_shares(whole)[0].cpu(), np.float64)
    maps = {each: evidence.in_cells(stack.disc_volumes, models.grader, stack.grades, each) for each in Method}
    scores = Scores(discs=[len(stack.disc_volumes)], missed=[stack.missed])
    scores.located.extend(locate(stack, maps, weights))
    _add_means(scores, maps, stack.regions)
    if is_checked:
        chance = np.random.default_rng(stack.patient)
        scores.curves.extend(evidence_sanity.curves(stack, maps, models.grader, chance))
        scores.randomised.extend(evidence_sanity.randomise(stack, maps, models.grader))
    return scores


def _add_means(scores: Scores, maps: Mapping[Method, VoxelArray], regions: Sequence[Mapping[str, FloatArray]]) -> None:
    for finding, name in REGIONS.items():
        middle = [each[name][len(each[name]) // 2] for each in regions]
        scores.mean_regions[finding] = np.sum(middle, axis=0)
        for method, of_method in maps.items():
            mid_slices = of_method[LEARNED.index(finding)][:, 4].astype(np.float64)
            total = mid_slices.sum(axis=(1, 2), keepdims=True)
            scores.mean_maps[method, finding] = (mid_slices / np.where(total > 0, total, 1)).sum(axis=0)


def merged(parts: Iterable[Scores]) -> Scores:
    """Rows one after the other, maps added up."""
    whole = Scores()
    for part in parts:
        whole.located.extend(part.located)
        whole.curves.extend(part.curves)
        whole.randomised.extend(part.randomised)
        whole.discs.extend(part.discs)
        whole.missed.extend(part.missed)
        for key, cells in part.mean_maps.items():
            whole.mean_maps[key] = whole.mean_maps.get(key, np.zeros_like(cells)) + cells
        for finding, cells in part.mean_regions.items():
            whole.mean_regions[finding] = whole.mean_regions.get(finding, np.zeros_like(cells)) + cells
    return whole


def store(scores: Scores, file: Path) -> None:
    """Write one stack's scores; a file that is there is whole."""
    rows: dict[str, Any] = {
        "located": [asdict(row) for row in scores.located],
        "curves": [
            {name: each.tolist() if name in _CURVES else each for name, each in asdict(row).items()}
            for row in scores.curves
        ],
        "randomised": [asdict(row) for row in scores.randomised],
        "discs": scores.discs,
        "missed": scores.missed,
    }
    arrays: dict[str, Any] = {f"map {method} {finding}": cells for (method, finding), cells in scores.mean_maps.items()}
    arrays |= {f"region {finding}": cells for finding, cells in scores.mean_regions.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    with unfinished.open("wb") as stream:
        np.savez_compressed(stream, rows=np.array(json.dumps(rows)), **arrays)
    unfinished.replace(file)


def load(file: Path) -> Scores:
    """What ``store`` wrote."""
    with np.load(file) as content:
        rows = json.loads(str(content["rows"]))
        scores = Scores(discs=rows["discs"], missed=rows["missed"])
        for name in content.files:
            kind, *key = name.split(" ")
            if kind == "map":
                scores.mean_maps[Method(key[0]), Finding(key[1])] = content[name]
            elif kind == "region":
                scores.mean_regions[Finding(key[0])] = content[name]
    scores.located.extend(Row(**{**row, "finding": Finding(row["finding"])}) for row in rows["located"])
    scores.randomised.extend(RandomisedRow(**row) for row in rows["randomised"])
    for row in rows["curves"]:
        curves = {name: np.array(row[name]) for name in _CURVES}
        scores.curves.append(CurveRow(**{**row, **curves, "finding": Finding(row["finding"])}))
    return scores
