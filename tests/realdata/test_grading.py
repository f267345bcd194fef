"""The shipped grader on real discs. Its patients have been trained on: this guards the chain, it is no measure of
quality (``docs/grading.md`` has that, out of fold).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from inference import detection, discs, evidence, grading, labelling, measurements
from inference.anatomy import Spine
from inference.grades import TAUGHT, Finding
from inference.networks.odds import LEARNED
from inference.training import spider
from inference.training.grading_scores import auc, quadratic_weighted_kappa
from inference.training.gradings import LEVEL_OF_LABEL
from inference.training.spider_gradings import COLUMN_OF
from inference.volume import SagittalVolume
from inference.weights import Models, load_models

pytestmark = [pytest.mark.realdata, pytest.mark.slow]
PATIENTS = 24


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models("cpu")


@pytest.fixture(scope="module")
def localised(data_root: Path, models: Models) -> list[tuple[int, SagittalVolume, Spine]]:
    """The first mid-sagittal T2 images whose discs are counted as SPIDER counts them."""
    found = []
    for image in spider.midsagittal_images(data_root / "spider"):
        if image.weighting != "t2" or len(found) == PATIENTS:
            continue
        volume = spider.read_midsagittal(data_root / "spider", image)
        spine = labelling.name(detection.find(volume, models.localiser))
        if len(spine.discs) == image.disc_count:
            found.append((image.patient, volume, spine))
    return found


def test_grades_agree_with_the_radiologist(
    data_root: Path, models: Models, localised: list[tuple[int, SagittalVolume, Spine]]
) -> None:
    labels = spider.gradings(data_root / "spider")
    number = {level: label for label, level in LEVEL_OF_LABEL.items()}
    pairs: dict[Finding, list[tuple[int, float]]] = {finding: [] for finding in COLUMN_OF}
    for patient, volume, spine in localised:
        graded = grading.grade(discs.cut(volume, spine), models.grader)
        for disc, grades in zip(spine.discs, graded, strict=True):
            said = labels.get((patient, number[disc.level]), {})
            for finding, column in COLUMN_OF.items():
                if column in said:
                    grade = grades[finding]
                    value = grade.value if finding is Finding.PFIRRMANN else grade.probabilities[TAUGHT[finding][-1]]
                    pairs[finding].append((said[column], value))
    truth, value = np.array(pairs[Finding.PFIRRMANN]).T
    assert len(truth) > 5 * PATIENTS
    assert quadratic_weighted_kappa(truth, value) > 0.75
    for finding, least in ((Finding.DISC_NARROWING, 0.9), (Finding.DISC_BULGING, 0.85)):
        assert auc(*np.array(pairs[finding]).T) > least, finding


def test_measurements_are_those_of_human_spines(localised: list[tuple[int, SagittalVolume, Spine]]) -> None:
    """Disc heights about 7.5 mm (Spahn 2024, three points: 7.5 +- 1.2 mm in healthy discs), depth 30-45 mm."""
    measured = [each for _, volume, spine in localised for each in measurements.measure(volume, spine).discs]
    assert 5.5 < np.median([m["disc_height_mm"] for m in measured if "disc_height_mm" in m]) < 9.5
    assert 30 < np.median([m["disc_depth_mm"] for m in measured if "disc_depth_mm" in m]) < 42


def test_the_canal_is_narrow_in_few_discs_of_whole_stacks(data_root: Path, models: Models) -> None:
    """Chatha 2011 found means of 11.6 mm (L5/S1) to 15.6 mm (L1/L2); patients with back pain have less."""
    canals = []
    for patient in spider.stack_patients(data_root / "spider")[:6]:
        volume = spider.read_stack(data_root / "spider", patient)
        spine = labelling.name(detection.find(volume, models.localiser))
        canals += [m["canal_ap_mm"] for m in measurements.measure(volume, spine).discs if "canal_ap_mm" in m]
    assert 10 < np.median(canals) < 16
    assert np.mean(np.array(canals) < 9) < 0.2


def test_a_stack_is_graded_and_explained_in_time(data_root: Path, models: Models) -> None:
    volume = spider.read_stack(data_root / "spider", spider.stack_patients(data_root / "spider")[0])
    spine = labelling.name(detection.find(volume, models.localiser))
    cut = discs.cut(volume, spine)
    torch.set_num_threads(1)  # more of them count the time they spend waiting for each other on a busy machine
    grading.grade(cut, models.grader)  # the first call pays for lazy set-up
    started = time.process_time()
    graded = grading.grade(cut, models.grader)
    graded_s, started = time.process_time() - started, time.process_time()
    maps = evidence.explain(volume, cut, models.grader, graded)
    explained_s = time.process_time() - started
    assert graded_s < 2 * 0.15  # processor seconds: 0.15 s on two cores
    assert explained_s < 2 * 1.5
    for of_disc in maps:
        assert [found.finding for found in of_disc] == list(LEARNED)
