"""Which spool this is: a ledger names files of one spool, and a node on another one would find none of them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from node.ledger import Ledger

_NAME = "spool.id"


class WrongSpool(Exception):
    """The ledger's images lie elsewhere; the message says what to set."""


def require_spool_of(ledger: Ledger, root: Path) -> None:
    """Raises ``WrongSpool`` where the ledger belongs to another spool; a ledger that belongs to none now has this one.

    The name lies in the spool itself: it moves with the folder, and comes back with a back-up.
    """
    if not ledger.workers.owns_spool(_identity(root)):
        raise WrongSpool(
            f"the database belongs to another spool than {root}: set node.spool_dir to that one (shared storage), "
            "or node.database_url to a database of its own"
        )


def _identity(root: Path) -> str:
    """Made up by whoever asks first; written beside and linked, so that nobody reads half of it."""
    path = root / _NAME
    if not path.exists():
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = root / f"{_NAME}.{secrets.token_hex(8)}"
        with draft.open("x", encoding="ascii") as file:
            file.write(secrets.token_hex(16))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass  # somebody else was first: theirs it is
        finally:
            draft.unlink()
    return path.read_text(encoding="ascii").strip()
