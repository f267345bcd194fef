"""One receiver for the tests of a file, with limits that are soon reached."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.receiving import Receiver
from tests.unit.node.receiver_limits.by_hand import (
    SECONDS_OF_SILENCE,
    echo,
)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(
        tmp_path_factory.mktemp("receiver"),
        acse_timeout_s=SECONDS_OF_SILENCE,
        network_timeout_s=SECONDS_OF_SILENCE,
        maximum_associations_per_address=10,
        maximum_object_mb=8,
    ) as running:
        echo(running)  # what is loaded late is loaded now
        yield running
