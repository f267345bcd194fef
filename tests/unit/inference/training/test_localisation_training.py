"""A training of a few steps on drawn files: its curves, its report, and that an interrupted one ends the same."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from inference.training import localisation, localisation_report, localisation_scores, localisation_sources
from inference.training.localisation import Stage, Training
from inference.training.localisation_sources import Layout
from tests.unit.inference.training.test_masked_series import write_release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STAGES = (Stage(name="one", steps=2, stack_share=1.0), Stage(name="two", steps=1, stack_share=0.5, overlap=0.0))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(localisation, "BATCH", 1)
    monkeypatch.setattr(localisation, "CHECKPOINT_STEPS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def training(root: Path, out: str) -> Training:
    for name in ("7_t2", "8_t2"):
        (root / "images").mkdir(exist_ok=True)
        if not (root / "images" / f"{name}.mha").exists():
            folder = root / name
            folder.mkdir()
            write_release(folder, name=name)
            for kind in ("images", "masks"):
                (root / kind).mkdir(exist_ok=True)
                (folder / kind / f"{name}.mha").rename(root / kind / f"{name}.mha")
    return Training(
        data=root,
        out=root / out / "localiser.safetensors",
        held_out=frozenset({"8"}),
        layout=Layout.SPIDER_RELEASE,
        stages=STAGES,
    )


def test_a_training_leaves_weights_curves_and_a_report(tmp_path: Path) -> None:
    asked = training(tmp_path, "a")
    weights = localisation.train(asked)
    curve = localisation_report.curves(asked)
    assert curve[:, 0].tolist() == [1, 2, 3]
    assert np.isfinite(curve).all()
    unseen = localisation_sources.read(tmp_path, Layout.SPIDER_RELEASE, {"8"}).unseen
    text = localisation_report.write(asked, unseen, localisation_scores.read_localiser(weights))
    assert "Dice of disc on 1 held-out middle slices" in text
    assert (weights.parent / "training.png").stat().st_size > 5000
    assert (weights.parent / "training.md").read_text() == text


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_file(localisation.train(training(tmp_path, "whole")))
    asked = training(tmp_path, "parts")
    keep = localisation._keep

    def keep_and_fall(checkpoint: Path, step: int, *rest: object) -> None:
        keep(checkpoint, step, *rest)  # type: ignore[arg-type]
        if checkpoint.stem == "one" and step == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(localisation, "_keep", keep_and_fall)
    with pytest.raises(KeyboardInterrupt):
        localisation.train(asked)
    monkeypatch.setattr(localisation, "_keep", keep)
    parts = load_file(localisation.train(asked))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor)
    with (asked.out.with_suffix("") / "one.csv").open() as table:
        assert [row[0] for row in csv.reader(table)] == ["1", "2"]


def test_patients_held_out_are_not_among_the_stacks(tmp_path: Path) -> None:
    asked = training(tmp_path, "a")
    sources = localisation_sources.read(asked.data, asked.layout, {"8"})
    assert (len(sources.stacks), len(sources.unseen)) == (1, 1)
    assert localisation_sources.patients(asked.data, asked.layout) == ("7", "8")
    assert replace(asked, seed=1).held_out == {"8"}
