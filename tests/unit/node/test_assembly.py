"""A study closes when it has been quiet long enough, or has taken too long; never for another reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from node.assembly import LAST_OF_ALL, Comparison, EarlyStart, Rules, Seen, Untold, compare, due, waiting
from node.records import ArchiveCounts, OpenStudy, SeriesCount

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def study(first: datetime, last: datetime, images: int = 15, *, sender: str = "SCANNER") -> OpenStudy:
    return OpenStudy(
        study_id=7,
        study_instance_uid="1.2.3",
        calling_ae_title=sender,
        first_received_at=first,
        last_received_at=last,
        instance_count=images,
    )


def series(uid: str, count: int | None, modality: str = "MR") -> SeriesCount:
    return SeriesCount(series_instance_uid=uid, modality=modality, instance_count=count)


def told(*by_series: SeriesCount, study: int | None = None) -> ArchiveCounts:
    return ArchiveCounts(series=by_series, study=study)


def test_a_study_that_was_quiet_for_the_quiet_time_closes_and_says_so() -> None:
    (closing,) = due(
        [study(NOON, NOON)],
        Rules(count_confirmed_s=15, quiet_s=30, maximum_wait_s=3600),
        compared={},
        seen={},
        now=NOON + timedelta(seconds=30),
    )
    assert closing.study_id == 7
    assert closing.reason == "closed with 15 images: no new image for 30 s"


def test_a_study_that_got_an_image_29_seconds_ago_stays_open() -> None:
    first = NOON - timedelta(minutes=5)
    assert (
        due(
            [study(first, NOON)],
            Rules(count_confirmed_s=15, quiet_s=30, maximum_wait_s=3600),
            compared={},
            seen={},
            now=NOON + timedelta(seconds=29),
        )
        == ()
    )


def test_a_study_that_never_falls_quiet_closes_after_the_longest_wait() -> None:
    now = NOON + timedelta(hours=1)
    (closing,) = due(
        [study(NOON, now, images=9000)],
        Rules(count_confirmed_s=15, quiet_s=30, maximum_wait_s=3600),
        compared={},
        seen={},
        now=now,
    )
    assert closing.reason == "closed with 9000 images: still receiving 3600 s after the first image"


def test_a_single_image_is_not_called_images() -> None:
    (closing,) = due(
        [study(NOON, NOON, images=1)],
        Rules(count_confirmed_s=15, quiet_s=2, maximum_wait_s=3600),
        compared={},
        seen={},
        now=NOON + timedelta(seconds=2),
    )
    assert closing.reason == "closed with 1 image: no new image for 2 s"


def test_the_closing_names_the_last_image_it_rests_on() -> None:
    last = NOON + timedelta(seconds=5)
    (closing,) = due(
        [study(NOON, last)],
        Rules(count_confirmed_s=15, quiet_s=1, maximum_wait_s=3600),
        compared={},
        seen={},
        now=NOON + timedelta(minutes=1),
    )
    assert closing.last_received_at == last


@given(
    received_for=st.floats(0, 7200),
    quiet_for=st.floats(0, 7200),
    quiet_s=st.floats(0.1, 600),
    maximum_wait_s=st.floats(1, 7200),
)
def test_it_closes_exactly_when_one_of_the_two_times_is_over(
    received_for: float, quiet_for: float, quiet_s: float, maximum_wait_s: float
) -> None:
    last = NOON + timedelta(seconds=received_for)
    now = last + timedelta(seconds=quiet_for)
    closes = bool(
        due(
            [study(NOON, last)],
            Rules(count_confirmed_s=15, quiet_s=quiet_s, maximum_wait_s=maximum_wait_s),
            compared={},
            seen={},
            now=now,
        )
    )
    is_quiet = now - last >= timedelta(seconds=quiet_s)
    is_too_long = now - NOON >= timedelta(seconds=maximum_wait_s)
    assert closes == (is_quiet or is_too_long)


def test_a_sender_can_have_a_quiet_time_of_its_own() -> None:
    ten_minutes = {"SLOWSCANNER": 600.0}
    now = NOON + timedelta(seconds=30)
    rules = Rules(count_confirmed_s=15, quiet_s=30, maximum_wait_s=3600, quiet_s_of=ten_minutes)
    assert due([study(NOON, NOON, sender="SLOWSCANNER")], rules, compared={}, seen={}, now=now) == ()
    (closing,) = due([study(NOON, NOON)], rules, compared={}, seen={}, now=now)
    assert closing.reason.endswith("no new image for 30 s")


class TestCompare:
    def test_what_the_series_that_began_still_lack_is_missing(self) -> None:
        known = compare([series("1", 10), series("2", 3)], told(series("1", 15), series("2", 3)))
        assert known == Comparison(missing=5, expected=18, mr_series_not_begun=0, series_lacking=frozenset({"1"}))

    NOTHING_TOLD = Untold(why="the sending archive tells no counts")

    def test_an_archive_that_tells_fewer_than_came_does_not_know_all_that_there_is(self) -> None:
        assert compare([series("1", 20)], told(series("1", 15))) == self.NOTHING_TOLD

    def test_an_archive_that_tells_nothing_does_not_make_a_study_whole(self) -> None:
        assert compare([series("1", 10)], told()) == self.NOTHING_TOLD
        assert compare([series("1", 10)], told(series("1", None))) == self.NOTHING_TOLD
        assert compare([series("1", 10)], told(series("9", 10))) == self.NOTHING_TOLD
        assert compare([], told()) == self.NOTHING_TOLD

    def test_one_series_without_a_number_is_enough_not_to_know_that_all_is_here(self) -> None:
        came = [series("1", 10), series("2", 5)]
        assert compare(came, told(series("1", 10), series("2", None))) == self.NOTHING_TOLD
        assert compare(came, told(series("1", 10))) == self.NOTHING_TOLD

    def test_images_that_are_missing_for_sure_are_missing_whatever_is_not_told_of_others(self) -> None:
        known = compare([series("1", 10), series("2", 5)], told(series("1", 12), series("2", None)))
        assert known == Comparison(missing=2, expected=12, mr_series_not_begun=0, series_lacking=frozenset({"1"}))

    def test_series_that_did_not_begin_are_counted_where_they_are_mr(self) -> None:
        archive = [series("1", 10), series("2", 30), series("3", 1, "SR")]
        known = compare([series("1", 10)], told(*archive))
        assert known == Comparison(missing=0, expected=10, mr_series_not_begun=1)

    def test_the_number_of_the_whole_study_will_do_where_none_is_told_of_its_series(self) -> None:
        came = [series("1", 10), series("2", 5)]
        assert compare(came, told(series("1", None), study=15)) == Comparison(
            missing=0, expected=15, mr_series_not_begun=0
        )

    def test_more_images_of_the_study_than_came_are_told_and_not_waited_for(self) -> None:
        """They may be reports or series that the archive does not send on."""
        known = compare([series("1", 10)], told(study=17))
        why = "the sending archive has 7 more images of the study, and does not tell of which series"
        assert known == Untold(why=why)

    def test_a_number_of_the_study_below_what_came_is_none(self) -> None:
        assert compare([series("1", 10)], told(study=9)) == self.NOTHING_TOLD
        assert compare([], told(study=0)) == self.NOTHING_TOLD


class TestDueWithTheArchivesCount:
    WHOLE = Comparison(missing=0, expected=15, mr_series_not_begun=0)
    LACKING = Comparison(missing=5, expected=15, mr_series_not_begun=0)
    FEWER_SERIES = Comparison(missing=0, expected=15, mr_series_not_begun=2)

    def decide(self, known: Comparison, after_s: float) -> str:
        now = NOON + timedelta(seconds=after_s)
        closings = due(
            [study(NOON, NOON)],
            Rules(count_confirmed_s=15, quiet_s=30, maximum_wait_s=3600),
            now=now,
            compared={7: known},
            seen={},
        )
        return closings[0].reason if closings else ""

    def test_equal_counts_that_were_told_once_close_nothing_before_the_quiet_time(self) -> None:
        """The archive may be filling still: 10 of 15 came, and it has those 10."""
        assert self.decide(self.WHOLE, 2) == self.decide(self.WHOLE, 29) == ""
        assert self.decide(self.WHOLE, 30) == (
            "closed with 15 images: no new image for 30 s; all that the sending archive has"
        )

    def test_a_count_that_stayed_the_same_closes_a_whole_study_before_the_quiet_time(self) -> None:
        assert self.decide(replace(self.WHOLE, told_for_s=14.9), 17) == ""
        assert self.decide(replace(self.WHOLE, told_for_s=15), 17) == (
            "closed with 15 images: all that the sending archive has, and it told the same count for 15 s"
        )

    def test_no_count_closes_before_a_quiet_time_that_its_sender_was_given(self) -> None:
        """It was given one because it pauses."""
        known = {7: replace(self.WHOLE, told_for_s=100)}
        rules = Rules(count_confirmed_s=15, quiet_s=30, quiet_s_of={"SCANNER": 120}, maximum_wait_s=3600)
        at = [NOON + timedelta(seconds=seconds) for seconds in (119, 120)]
        assert due([study(NOON, NOON)], rules, compared=known, seen={}, now=at[0]) == ()
        (closing,) = due([study(NOON, NOON)], rules, compared=known, seen={}, now=at[1])
        assert closing.reason == "closed with 15 images: no new image for 120 s; all that the sending archive has"

    def test_one_that_lacks_images_stays_open_beyond_the_quiet_time_until_the_maximum(self) -> None:
        assert self.decide(self.LACKING, 3599) == ""
        assert self.decide(self.LACKING, 3600) == (
            "closed with 15 images: 5 of 15 images that the sending archive has are missing, "
            "and 3600 s are over since the first image"
        )

    def test_series_that_never_began_cost_the_quiet_time_and_are_told(self) -> None:
        assert self.decide(replace(self.FEWER_SERIES, told_for_s=27), 29) == ""
        assert self.decide(self.FEWER_SERIES, 30) == (
            "closed with 15 images: no new image for 30 s; 2 MR series of the sending archive did not come at all"
        )

    def test_what_is_waited_for_is_told(self) -> None:
        (wait,) = waiting([study(NOON, NOON)], compared={7: self.LACKING}, seen={})
        assert wait.reason == "waits: 5 of 15 images that the sending archive has are missing"
        assert waiting([study(NOON, NOON)], compared={7: self.WHOLE}, seen={}) == ()


RULES = Rules(count_confirmed_s=15, quiet_s=30, maximum_wait_s=3600)


class TestDueWithoutTheArchivesCount:
    NO_COUNTS = Untold(why="the sending archive tells no counts")
    AWAITED = Untold(why="the sending archive did not answer in time", awaited=True)

    def decide(self, answer: Untold, after_s: float, looked: Seen | None = None, quiet_s: float = 30) -> str:
        closings = due(
            [study(NOON, NOON)],
            Rules(count_confirmed_s=15, quiet_s=quiet_s, maximum_wait_s=3600),
            now=NOON + timedelta(seconds=after_s),
            compared={7: answer},
            seen={7: looked} if looked else {},
        )
        return closings[0].reason.removeprefix("closed with 15 images: ") if closings else ""

    def test_the_quiet_time_decides_and_the_reason_says_why(self) -> None:
        assert self.decide(self.NO_COUNTS, 29) == ""
        assert self.decide(self.NO_COUNTS, 30) == "no new image for 30 s; the sending archive tells no counts"

    def test_a_gap_between_the_slices_is_waited_for(self) -> None:
        looked = seen(missing=12, slices=26)
        assert self.decide(self.NO_COUNTS, 3599, looked) == ""
        assert self.decide(self.NO_COUNTS, 3600, looked) == (
            "12 slices are missing between the 26 that came of the series to be graded, "
            "and 3600 s are over since the first image; the sending archive tells no counts"
        )

    def test_a_quiet_study_waits_for_the_first_answer_until_the_longest_wait_is_over(self) -> None:
        assert self.decide(self.AWAITED, 1, quiet_s=1) == self.decide(self.AWAITED, 3599) == ""
        assert self.decide(self.AWAITED, 3600) == "no new image for 30 s; the sending archive did not answer in time"

    def test_of_a_study_that_still_receives_nobody_was_asked(self) -> None:
        now = NOON + timedelta(hours=1)
        (closing,) = due([study(NOON, now)], RULES, now=now, compared={7: self.AWAITED}, seen={})
        assert closing.reason == "closed with 15 images: still receiving 3600 s after the first image"


def seen(*, missing: int = 0, slices: int = 15, at: datetime = NOON, uid: str = "1.2.3.1") -> Seen:
    return Seen(series_instance_uid=uid, slices=slices, missing_slices=missing, last_received_at=at)


class TestSlicesThatLackWithinTheSeriesToBeGraded:
    def test_a_quiet_study_is_waited_for(self) -> None:
        looked = {7: seen(missing=2, slices=13)}
        now = NOON + timedelta(minutes=10)
        assert due([study(NOON, NOON)], RULES, compared={}, seen=looked, now=now) == ()
        (wait,) = waiting([study(NOON, NOON)], compared={}, seen=looked)
        assert wait.reason == "waits: 2 slices are missing between the 13 that came of the series to be graded"

    def test_until_the_longest_wait_is_over(self) -> None:
        looked = {7: seen(missing=1, slices=14)}
        (closing,) = due([study(NOON, NOON)], RULES, compared={}, seen=looked, now=NOON + timedelta(hours=1))
        assert closing.reason == (
            "closed with 15 images: 1 slice is missing between the 14 that came of the series to be graded, "
            "and 3600 s are over since the first image"
        )

    def test_an_archive_that_has_no_more_of_them_may_be_filling_still(self) -> None:
        whole = {7: Comparison(missing=0, expected=14, mr_series_not_begun=0, told_for_s=3000)}
        looked = {7: seen(missing=1, slices=14)}
        gap = (
            "1 slice is missing between the 14 that came of the series to be graded "
            "(the sending archive has no more images either)"
        )
        early, late = NOON + timedelta(seconds=3599), NOON + timedelta(hours=1)
        assert due([study(NOON, NOON)], RULES, compared=whole, seen=looked, now=early) == ()
        (wait,) = waiting([study(NOON, NOON)], compared=whole, seen=looked)
        assert wait.reason == f"waits: {gap}"
        (closing,) = due([study(NOON, NOON)], RULES, compared=whole, seen=looked, now=late)
        assert closing.reason == f"closed with 15 images: {gap}, and 3600 s are over since the first image"


class TestEarlyStart:
    """The T2 sagittal series came at noon, another one still arrives."""

    STREAMING = study(NOON - timedelta(minutes=1), NOON + timedelta(seconds=10), images=200)
    EARLY = Rules(
        count_confirmed_s=15, quiet_s=30, maximum_wait_s=3600, early=EarlyStart(series_quiet_s=10, minimum_slices=5)
    )

    def at(self, seconds: float, looked: Seen, rules: Rules = EARLY, known: Comparison | None = None) -> list[str]:
        now = NOON + timedelta(seconds=seconds)
        compared = {7: known} if known else {}
        closings = due([self.STREAMING], rules, compared=compared, seen={7: looked}, now=now)
        return [closing.reason for closing in closings]

    def test_it_starts_when_the_series_was_quiet_long_enough(self) -> None:
        assert self.at(9.9, seen()) == []
        assert self.at(10, seen()) == [
            "closed with 200 images: the series to be graded is whole (15 slices, none new for 10 s), "
            "the rest may still come"
        ]

    def test_the_images_that_still_come_do_not_forbid_the_closing(self) -> None:
        (closing,) = due([self.STREAMING], self.EARLY, compared={}, seen={7: seen()}, now=NOON + timedelta(seconds=10))
        assert (closing.last_received_at, closing.graded_series) == (LAST_OF_ALL, "1.2.3.1")

    def test_only_by_setting(self) -> None:
        assert self.at(10, seen(), RULES) == []

    def test_not_while_slices_lack_or_are_too_few_or_nothing_can_be_graded(self) -> None:
        assert self.at(20, seen(missing=1)) == self.at(20, seen(slices=4)) == self.at(20, seen(uid="")) == []

    def test_not_while_the_sending_archive_has_more_of_the_series(self) -> None:
        lacking = Comparison(missing=1, expected=300, mr_series_not_begun=0, series_lacking=frozenset({"1.2.3.1"}))
        assert self.at(20, seen(), known=lacking) == []
        other = Comparison(missing=1, expected=300, mr_series_not_begun=0, series_lacking=frozenset({"1.2.3.9"}))
        assert len(self.at(20, seen(), known=other)) == 1

    def test_the_generation_of_what_comes_later_does_not_start_early_again(self) -> None:
        later = study(NOON + timedelta(seconds=11), NOON + timedelta(seconds=40))
        now = NOON + timedelta(seconds=41)
        assert due([later], self.EARLY, compared={}, seen={7: seen()}, now=now) == ()
        (closing,) = due([later], self.EARLY, compared={}, seen={7: seen()}, now=NOON + timedelta(seconds=70))
        assert closing.graded_series == "1.2.3.1", "what came later is compared by the series that was graded"
