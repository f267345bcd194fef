from dataclasses import replace

import numpy as np
import pytest

from inference.anatomy import DiscLevel, Found, FoundBody, FoundDisc, Vertebra
from inference.labelling import name, namings
from inference.volume import Unsuitable

STEP_MM = 35.0


def disc(index: float, *, sacrum: float = 0.02, vertebra: float = 0.95, in_view: float = 1.0) -> FoundDisc:
    """The ``index``-th disc from above; a vertebra lies beneath unless told otherwise."""
    z = -STEP_MM * index
    return FoundDisc(
        slice_index=7,
        outline_lps_mm=np.array([[0, -18, z], [0, 0, z + 5], [0, 18, z], [0, 0, z - 5]], np.float64),
        center_lps_mm=np.array([0.0, 0.0, z]),
        anterior_lps_mm=np.array([0.0, -18.0, z]),
        posterior_lps_mm=np.array([0.0, 18.0, z]),
        canal_lps_mm=None,
        complete=True,
        confidence=0.95,
        sacrum_beneath=sacrum,
        vertebra_beneath=vertebra,
        beneath_in_view=in_view,
    )


def body(index: float) -> FoundBody:
    """The body above the ``index``-th disc."""
    middle = -STEP_MM * (index - 0.5)
    corners = [[0, -18, middle + 12], [0, 18, middle + 12], [0, 18, middle - 12], [0, -18, middle - 12]]
    return FoundBody(corners_lps_mm=np.array(corners, np.float64))


def found(*discs: FoundDisc) -> Found:
    return Found(discs=discs, bodies=tuple(body(index) for index in range(len(discs) + 1)))


def on_sacrum(index: float) -> FoundDisc:
    return disc(index, sacrum=0.9, vertebra=0.05)


def levels(spine_found: Found) -> list[str]:
    return [each.level.value for each in name(spine_found).discs]


def test_the_disc_on_the_sacrum_is_l5_s1_and_the_rest_follow_upwards() -> None:
    spine = name(found(*(disc(k) for k in range(5)), on_sacrum(5)))
    assert [each.level.value for each in spine.discs] == ["T12/L1", "L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"]
    assert min(each.level_confidence for each in spine.discs) > 0.95
    assert spine.doubts == ()


def test_bodies_are_named_with_the_discs_they_border_on() -> None:
    spine = name(found(*(disc(k) for k in range(5)), on_sacrum(5)))
    assert [each.level for each in spine.bodies] == [
        Vertebra.T12, Vertebra.L1, Vertebra.L2, Vertebra.L3, Vertebra.L4, Vertebra.L5, Vertebra.S1,
    ]  # fmt: skip
    l5 = next(each for each in spine.bodies if each.level is Vertebra.L5)
    l5_s1 = next(each for each in spine.discs if each.level is DiscLevel.L5_S1)
    assert l5.center_lps_mm[2] == pytest.approx(l5_s1.center_lps_mm[2] + STEP_MM / 2)


def test_a_body_that_was_not_seen_whole_is_left_out() -> None:
    whole = found(*(disc(k) for k in range(5)), on_sacrum(5))
    spine = name(replace(whole, bodies=(None, *whole.bodies[1:])))
    assert spine.bodies[0].level is Vertebra.L1


def test_an_image_that_ends_below_l4_l5_is_never_confidently_wrong() -> None:
    """A vertebra, not the sacrum, lies beneath the lowest disc and no further disc follows."""
    spine = name(found(*(disc(k) for k in range(6))))
    assert spine.discs[-1].level is DiscLevel.L4_L5
    assert all(each.level_confidence < 0.5 for each in spine.discs)
    assert any("L5/S1 lies outside the image or was not recognised" in doubt for doubt in spine.doubts)


def test_an_image_that_ends_right_beneath_a_disc_leaves_its_level_open() -> None:
    spine = name(found(*(disc(k) for k in range(5)), disc(5, sacrum=0, vertebra=0, in_view=0)))
    assert all(each.level_confidence < 0.5 for each in spine.discs)
    assert spine.doubts


def test_a_disc_cut_off_by_the_edge_counts_for_naming_but_is_not_graded() -> None:
    cut = replace(disc(5, sacrum=0, vertebra=0, in_view=0), complete=False)
    spine = name(found(*(disc(k) for k in range(5)), cut))
    assert [each.level.value for each in spine.discs] == ["T12/L1", "L1/L2", "L2/L3", "L3/L4", "L4/L5"]
    assert any("cut off by the edge" in doubt for doubt in spine.doubts)


def test_a_remnant_beneath_l5_s1_is_left_out_and_told() -> None:
    remnant = disc(6, sacrum=0.05, vertebra=0.05)
    spine = name(found(*(disc(k) for k in range(5)), on_sacrum(5), remnant))
    assert spine.discs[-1].level is DiscLevel.L5_S1
    assert spine.discs[-1].center_lps_mm[2] == -STEP_MM * 5
    assert any("remnant" in doubt for doubt in spine.doubts)


def test_an_unclear_sacrum_lowers_the_confidence_and_is_told() -> None:
    unclear = [*(disc(k) for k in range(4)), disc(4, sacrum=0.5, vertebra=0.5), disc(5, sacrum=0.5, vertebra=0.5)]
    spine = name(found(*unclear))
    assert spine.discs[-1].level_confidence < 0.9


def test_a_missed_disc_leaves_a_gap_in_the_levels_and_doubt_above_it() -> None:
    spine = name(found(disc(0), disc(1), disc(3), disc(4), on_sacrum(5)))
    assert [each.level.value for each in spine.discs] == ["T12/L1", "L1/L2", "L3/L4", "L4/L5", "L5/S1"]
    above, below = spine.discs[1].level_confidence, spine.discs[2].level_confidence
    assert above == pytest.approx(0.6 * below, abs=0.01)
    assert any("missed between" in doubt for doubt in spine.doubts)
    assert Vertebra.L2 not in [each.level for each in spine.bodies]


def test_discs_above_t9_are_left_out() -> None:
    assert levels(found(*(disc(k) for k in range(10)), on_sacrum(10)))[0] == "T9/T10"


def test_few_discs_are_named_with_a_remark() -> None:
    spine = name(found(disc(0), disc(1), on_sacrum(2)))
    assert [each.level.value for each in spine.discs] == ["L3/L4", "L4/L5", "L5/S1"]
    assert any("Only 3 discs" in doubt for doubt in spine.doubts)


def test_two_discs_are_no_lumbar_spine() -> None:
    with pytest.raises(Unsuitable, match="2 disc"):
        name(found(disc(0), on_sacrum(1)))


def test_unclear_discs_are_no_lumbar_spine() -> None:
    faint = [replace(each, confidence=0.3) for each in (disc(0), disc(1), disc(2), on_sacrum(3))]
    with pytest.raises(Unsuitable, match="unclear"):
        name(found(*faint))


def test_discs_of_an_impossible_size_are_no_lumbar_spine() -> None:
    half = np.array([0.0, 6.0, 0.0])
    small = [
        replace(each, anterior_lps_mm=each.center_lps_mm - half, posterior_lps_mm=each.center_lps_mm + half)
        for each in (disc(0), disc(1), disc(2), on_sacrum(3))
    ]
    with pytest.raises(Unsuitable, match="12 mm deep"):
        name(found(*small))


def test_the_ways_to_name_the_discs_are_probabilities() -> None:
    ways = namings([*(disc(k) for k in range(5)), on_sacrum(5)])
    assert sum(way.probability for way in ways) == pytest.approx(1)
    assert [way.probability for way in ways] == sorted((way.probability for way in ways), reverse=True)


def resized(discs: Found, factor: float) -> Found:
    """As under a header whose pixels are ``factor`` times as large as they are."""
    return replace(
        discs,
        discs=tuple(
            replace(
                each,
                center_lps_mm=each.center_lps_mm * factor,
                anterior_lps_mm=each.anterior_lps_mm * factor,
                posterior_lps_mm=each.posterior_lps_mm * factor,
            )
            for each in discs.discs
        ),
    )


@pytest.mark.parametrize("factor", [0.4, 2.0])
def test_a_whole_spine_of_impossible_size_is_named_and_its_pixel_size_doubted(factor: float) -> None:
    spine = name(resized(found(*(disc(k) for k in range(5)), on_sacrum(5)), factor))
    assert spine.discs[-1].level is DiscLevel.L5_S1
    assert any(f"{36 * factor:.0f} mm deep" in doubt and "pixel size" in doubt for doubt in spine.doubts)


def test_a_few_discs_of_impossible_size_are_no_spine() -> None:
    with pytest.raises(Unsuitable, match="72 mm deep"):
        name(resized(found(*(disc(k) for k in range(3)), on_sacrum(3)), 2.0))


def test_a_spine_is_as_sure_as_its_least_sure_disc() -> None:
    spine = name(found(disc(0), disc(1), disc(3), disc(4), on_sacrum(5)))
    assert spine.level_confidence == min(each.level_confidence for each in spine.discs) < 0.7
    assert replace(spine, discs=()).level_confidence == 0.0


def shallow(lowest: FoundDisc, share: float) -> FoundDisc:
    """The disc with so large a share of the usual depth of 36 mm."""
    front, back = lowest.anterior_lps_mm.copy(), lowest.posterior_lps_mm.copy()
    front[1], back[1] = -18 * share, 18 * share
    return replace(lowest, anterior_lps_mm=front, posterior_lps_mm=back)


def sureness(lead_above: float, lead: float, share: float) -> float:
    """Of the names where S1's lead is ``lead_above`` beneath L4/L5 and ``lead`` beneath L5/S1, which is so deep."""
    above = disc(4, sacrum=0.0, vertebra=-lead_above)
    lowest = shallow(disc(5, sacrum=lead, vertebra=0.0), share)
    return min(each.level_confidence for each in name(found(*(disc(k) for k in range(4)), above, lowest)).discs)


def test_a_shallow_disc_over_marks_that_hardly_change_may_be_the_one_below_a_transitional_vertebra() -> None:
    assert sureness(-1.0, 0.85, 0.97) == pytest.approx(0.97, abs=0.002)
    # Change 1.42: 4.2 times, depth .77: 6.2 times likelier in a transition. 3 : 97 x 26 = .80, a chance of .44.
    assert sureness(-0.71, 0.71, 0.77) == pytest.approx(1 - 0.445, abs=0.01)


def test_a_shallow_disc_alone_is_no_transition_and_marks_alone_only_where_they_hardly_change() -> None:
    assert sureness(-1.0, 0.85, 0.80) > 0.96
    assert 0.9 < sureness(-1.0, 0.85, 0.60) < 0.92  # clear marks: 30 x 0.1 x 3 : 97
    assert sureness(-0.75, 0.72, 1.0) > 0.95
    assert sureness(-0.45, 0.45, 1.0) < 0.9


def test_a_transition_never_makes_the_usual_count_the_less_likely_one() -> None:
    for lead_above in (-1.0, -0.6, -0.4):
        for share in (0.3, 0.5, 0.8, 1.0, 1.2):
            assert sureness(lead_above, 0.6, share) > 0.5


def test_whoever_reads_uncertain_names_is_told_of_a_possible_transition() -> None:
    lowest = shallow(disc(5, sacrum=0.71, vertebra=0.0), 0.77)
    doubts = name(found(*(disc(k) for k in range(4)), disc(4, sacrum=0.0, vertebra=0.71), lowest)).doubts
    assert len(doubts) == 1
    assert "lumbosacral transition" in doubts[0]
