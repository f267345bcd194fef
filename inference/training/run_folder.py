"""What a training's folder says of itself, so that the same weights can be made again: ``run.json``."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.training.gradings import GradedDiscs

RECORD = "run.json"
ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, discs: GradedDiscs, devices: Iterable[str]) -> None:
    """Code, data, machine and the sums of the weights that lie in the folder; the recipe lies beside it."""
    record: dict[str, Any] = {
        "again": "spinenode train grading --data DATA --out OUT --config recipe.json",
        "spinenode": version("spinenode"),
        "commit": commit(),
        "torch": str(torch.__version__),
        "devices": list(devices),
        "discs": len(discs),
        "patients": len(np.unique(discs.patient)),
        "discs_sha256": digest(discs),
        "weights_sha256": {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def digest(discs: GradedDiscs) -> str:
    """sha256 of all that is learned from: images, places, numbers and labels."""
    together = hashlib.sha256()
    for name in sorted(GradedDiscs.__dataclass_fields__):
        if getattr(discs, name) is None:
            continue
        values = np.ascontiguousarray(getattr(discs, name))
        together.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        together.update(values.tobytes())
    return together.hexdigest()


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def commit() -> str:
    """The checkout's commit, with ``+`` where the code differs from it; "unknown" for an installed package."""
    if not (ROOT / ".git").exists():
        return "unknown"
    try:
        head, changed = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout  # noqa: S603, S607 - fixed words; git is where PATH has it
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no", "--", "inference"))
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head.strip() + ("+" if changed.strip() else "")
