"""Signs of life: they tell a process that works from one that hangs, and how often it was started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from node import lifesigns

PROGRAM = """
import sys, time
from pathlib import Path
from node import lifesigns
lifesigns.BEAT_EVERY_S = 0.05
lifesigns.tell("refused", lambda: {"too many": 3})
lifesigns.begin(Path(sys.argv[1]), "receiver")
time.sleep(60)
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_says_that_it_lives_and_what_it_has_to_tell_until_it_hangs(tmp_path: Path) -> None:
    lifesigns.clear(tmp_path)
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)]) as process:
        try:
            until(lambda: bool(lifesigns.read(tmp_path)))
            (sign,) = lifesigns.read(tmp_path)
            assert (sign.name, sign.pid, sign.facts) == ("receiver", process.pid, {"refused": {"too many": 3}})
            assert sign.age_s < 5

            os.kill(process.pid, signal.SIGSTOP)
            until(lambda: lifesigns.read(tmp_path)[0].age_s > 0.5)
        finally:
            process.kill()


def test_nobody_lives_where_nobody_ever_ran(tmp_path: Path) -> None:
    assert lifesigns.read(tmp_path) == ()


def test_the_starts_of_a_part_are_counted_until_the_node_starts_anew(tmp_path: Path) -> None:
    lifesigns.clear(tmp_path)
    path = tmp_path / lifesigns.FOLDER / "worker.json"
    for start in range(2):
        with subprocess.Popen([sys.executable, "-c", PROGRAM.replace("receiver", "worker"), str(tmp_path)]) as process:
            until(lambda count=start + 1: path.exists() and len(json.loads(path.read_text())["starts"]) == count)
            process.kill()
    (sign,) = lifesigns.read(tmp_path)
    assert len(sign.started_s_ago) == 2
    assert list(sign.started_s_ago) == sorted(sign.started_s_ago, reverse=True)

    lifesigns.clear(tmp_path)
    assert lifesigns.read(tmp_path) == ()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_torn_file_is_no_sign(tmp_path: Path, content: str) -> None:
    lifesigns.clear(tmp_path)
    (tmp_path / lifesigns.FOLDER / "worker.json").write_text(content)

    assert lifesigns.read(tmp_path) == ()
