"""The token that a STOW-RS request must bear."""

from __future__ import annotations

import os
from pathlib import Path

LEAST_CHARACTERS = 20


def read_token(file: Path) -> str:
    """The token in a file that nobody but its owner may read.

    Raises:
        ValueError: others may read it, it cannot be read, or holds fewer than 20 characters.
    """
    try:
        if os.stat(file).st_mode & 0o077:  # noqa: PTH116
            raise ValueError("receiver.stow_token_file can be read by others: chmod 600")
        token = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ValueError(f"receiver.stow_token_file cannot be read: {error.strerror}") from error
    if len(token) < LEAST_CHARACTERS:
        raise ValueError(f"receiver.stow_token_file holds fewer than {LEAST_CHARACTERS} characters")
    return token
