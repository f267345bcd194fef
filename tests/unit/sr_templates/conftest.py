"""The made-up graded study in its three layouts, rendered once for all tests here."""

from __future__ import annotations

import pytest

from sr_templates.render import Rendered, render
from tests.report_factories import RUN, GradedStudy, Layout, graded_study


@pytest.fixture(scope="session")
def study() -> GradedStudy:
    return graded_study()


@pytest.fixture(scope="session")
def rendered(study: GradedStudy) -> tuple[Rendered, ...]:
    return render(study.report, study.source, RUN)


@pytest.fixture(scope="session", params=list(Layout), ids=lambda layout: layout.value)
def study_in_any_layout(request: pytest.FixtureRequest) -> GradedStudy:
    return graded_study(request.param)
