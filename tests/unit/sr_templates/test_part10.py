"""The files of a report: as pydicom writes each alone, though what they share is encoded once."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

from sr_templates import part10
from sr_templates.render import OutputKind, Rendered, SrClass, Wanted, render
from tests.report_factories import RUN, GradedStudy


def saved(item: Rendered) -> bytes:
    alone = BytesIO()
    item.dataset.save_as(alone, enforce_file_format=True)
    return alone.getvalue()


def test_every_kind_in_every_class_is_written_as_if_it_were_alone(study_in_any_layout: GradedStudy) -> None:
    wanted = Wanted(kinds=frozenset(OutputKind), sr_classes=tuple(SrClass))
    rendered = render(study_in_any_layout.report, study_in_any_layout.source, RUN, wanted)
    assert {item.kind for item in rendered} == set(OutputKind) - {OutputKind.DECLINED_REPORT, OutputKind.REJECTION_NOTE}
    assert list(part10.files(rendered)) == [saved(item) for item in rendered]


def test_documents_of_two_reports_do_not_share_their_content(study: GradedStudy) -> None:
    def one(digest: str) -> Rendered:
        return render(study.report, study.source, replace(RUN, study_digest=digest * 64))[0]

    files = list(part10.files(one(digest) for digest in "abcdef"))
    assert files == [saved(one(digest)) for digest in "abcdef"]
    assert len(set(files)) == 6
