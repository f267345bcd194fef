"""The demonstration empties only what a demonstration made. (`make demo` itself runs in tests/peers/test_demo.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from node import demo


def test_a_folder_with_other_files_is_left_alone_even_if_it_holds_settings(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("")
    (tmp_path / "precious.txt").write_text("mine")

    with pytest.raises(demo.DemoFailed, match="other files"):
        demo.run(tmp_path, keep_running=False, say=lambda _: None)

    assert (tmp_path / "precious.txt").read_text() == "mine"
