"""A disc gets the labels of its level only where something vouches for the level; the rest is told, never dropped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.anatomy import Disc, DiscLevel, Spine
from inference.training import disc_cutting, gradings
from inference.training.disc_cutting import cut_all, load_or_cut, matched
from inference.training.graded_series import DataSetError, GradedData, GradedSeries, LeftOut
from inference.training.gradings import TARGETS, UNKNOWN
from inference.volume import SagittalVolume, Unsuitable
from tests.spine_factory import drawn_spine

DRAWN = drawn_spine()
LEVELS = tuple(disc.level for disc in DRAWN.spine.discs)
STENOSIS_NAME = "central_canal_stenosis"
PFIRRMANN, STENOSIS = TARGETS.index("pfirrmann"), TARGETS.index(STENOSIS_NAME)


def found_sure(confidence: float) -> tuple[Disc, ...]:
    return tuple(replace(disc, level_confidence=confidence) for disc in DRAWN.spine.discs)


def series(**changes: object) -> GradedSeries:
    made = GradedSeries(
        name="s1", patient=7, read=lambda: DRAWN.volume, labels={level: {"pfirrmann": 3} for level in LEVELS[:2]}
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def data(*all_series: GradedSeries, root: Path = Path()) -> GradedData:
    table = root / "labels.csv"
    if root != Path():
        table.write_text("".join(f"{each.name} {dict(each.labels)}" for each in all_series))
    return GradedData(root=root, series=all_series, patients={7: "seven"}, files=(table,) if root != Path() else ())


def localise(volume: SagittalVolume, patient: int) -> Spine:
    return replace(DRAWN.spine, discs=found_sure(0.9))


def test_by_name_a_level_is_believed_where_the_localiser_is_sure() -> None:
    chosen, left_out = matched(found_sure(0.9), series())
    assert chosen == {0: LEVELS[0], 1: LEVELS[1]}
    assert left_out == ()
    chosen, left_out = matched(found_sure(0.3), series())
    assert chosen == {}
    assert [each.reason for each in left_out] == ["the level of the disc found is not sure (0.30)"] * 2


def test_a_count_that_agrees_vouches_for_names_that_are_not_sure() -> None:
    assert len(matched(found_sure(0.3), series(disc_count=len(LEVELS)))[0]) == 2


def test_a_level_that_was_not_found_is_told() -> None:
    absent = next(level for level in DiscLevel if level not in LEVELS)
    _, left_out = matched(found_sure(0.9), series(labels={absent: {"pfirrmann": 1}}))
    assert left_out == (LeftOut(series="s1", level=absent, reason="no disc of this name was found"),)


def test_a_marked_point_tells_the_disc_whatever_it_was_called() -> None:
    """The labels' L-level lies beside the disc that the localiser calls the next one up."""
    beside = DRAWN.spine.discs[0].posterior_lps_mm + np.array([0.0, 8.0, 0.0])
    marked = series(labels={LEVELS[1]: {"pfirrmann": 3}}, places=lambda: {LEVELS[1]: beside})
    assert matched(found_sure(0.1), marked) == ({0: LEVELS[1]}, ())


def test_a_point_beside_no_disc_and_two_points_beside_one_are_told() -> None:
    beside = DRAWN.spine.discs[0].posterior_lps_mm + np.array([0.0, 8.0, 0.0])
    _, away = matched(found_sure(0.9), series(places=lambda: {LEVELS[0]: beside + np.array([0.0, 300.0, 0.0])}))
    assert "mm from the point that marks it" in away[0].reason
    chosen, left_out = matched(found_sure(0.9), series(places=lambda: dict.fromkeys(LEVELS[:2], beside)))
    assert chosen == {0: LEVELS[0]}
    assert left_out[0].reason == f"the same disc was found for it as for {LEVELS[0]}"


def test_labels_come_in_the_order_of_the_targets_and_unknown_ones_are_marked() -> None:
    cut, left_out = cut_all(data(series(labels={LEVELS[0]: {"pfirrmann": 4}, LEVELS[1]: {STENOSIS_NAME: 1}})), localise)
    assert cut is not None
    assert left_out == ()
    assert cut.labels[:, [PFIRRMANN, STENOSIS]].tolist() == [[4, UNKNOWN], [UNKNOWN, 1]]
    assert (np.delete(cut.labels, [PFIRRMANN, STENOSIS], axis=1) == UNKNOWN).all()
    assert cut.patient.tolist() == [7, 7]
    assert [gradings.LEVEL_OF_LABEL[number] for number in cut.label_number.tolist()] == list(LEVELS[:2])
    assert cut.slices.shape[1:] == (192, 320)


def test_a_study_that_is_unsuitable_is_told_with_the_reason() -> None:
    def spoilt() -> SagittalVolume:
        raise Unsuitable("No sagittal T2-weighted series of the lumbar spine.")

    cut, left_out = cut_all(
        data(
            series(name="spoilt", read=spoilt),
            series(name="other count", disc_count=len(LEVELS) + 2),
            series(name="nothing said", labels={}),
            series(),
        ),
        localise,
    )
    assert cut is not None
    assert len(cut) == 2
    assert [(each.series, each.level, each.reason.split(":")[0]) for each in left_out] == [
        ("spoilt", "", "No sagittal T2-weighted series of the lumbar spine."),
        ("other count", "", f"{len(LEVELS)} discs were found and the data set counts {len(LEVELS) + 2}"),
        ("nothing said", "", "no label"),
    ]


def test_what_was_left_out_and_who_is_who_lie_beside_the_discs(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    load_or_cut(data(series(), series(name="nothing said", labels={}), root=tmp_path), folder / "d.npz", localise, "a")
    assert (folder / "left_out.csv").read_text().splitlines() == ["series,level,reason", "nothing said,,no label"]
    assert (folder / "patients.csv").read_text().splitlines() == ["number,patient", "7,seven"]


def test_discs_are_cut_once_and_anew_when_data_or_localiser_change(tmp_path: Path) -> None:
    looks: list[int] = []

    def counted(volume: SagittalVolume, patient: int) -> Spine:
        looks.append(1)
        return localise(volume, patient)

    cache = tmp_path / "run" / "discs.npz"
    first = load_or_cut(data(series(), root=tmp_path), cache, counted, "one")
    again = load_or_cut(data(series(), root=tmp_path), cache, counted, "one")
    assert len(looks) == 1
    np.testing.assert_array_equal(first.slices, again.slices)
    load_or_cut(data(series(), root=tmp_path), cache, counted, "another localiser")
    assert len(looks) == 2
    changed = load_or_cut(
        data(series(labels={LEVELS[0]: {"pfirrmann": 5}}), root=tmp_path), cache, counted, "another localiser"
    )
    assert len(looks) == 3
    assert changed.labels[:, PFIRRMANN].tolist() == [5]


def test_where_nothing_could_be_cut_the_table_tells_why(tmp_path: Path) -> None:
    nothing = data(series(disc_count=99), root=tmp_path)
    with pytest.raises(DataSetError, match=r"left_out\.csv"):
        load_or_cut(nothing, tmp_path / "run" / "discs.npz", localise, "one")
    assert "counts 99" in (tmp_path / "run" / "left_out.csv").read_text()
    assert not (tmp_path / "run" / "discs.npz").exists()


def test_discs_of_another_version_are_refused(tmp_path: Path) -> None:
    cache = tmp_path / "discs.npz"
    load_or_cut(data(series(), root=tmp_path), cache, localise, "one")
    with np.load(cache) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(cache, **{**arrays, "labels": arrays["labels"][:, :-1]})
    with pytest.raises(DataSetError, match="another version"):
        gradings.load(cache)
    assert disc_cutting.stamped(tmp_path / "nowhere.npz") is None
