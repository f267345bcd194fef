"""pynetdicom and pydicom as the receiver wants them: they accept what they do not know, and log no identifiers."""

from __future__ import annotations

import logging
import re

import pydicom.config
from pynetdicom import _config

from node import logs

_QUOTED = re.compile(r"""["'].*["']|["'].*|\d+(?:\.\d+){4,}""")
"""What a peer may have written, quotes of its own too, and UIDs that are not in quotes."""

_log = logging.getLogger(__name__)


def prepare() -> None:
    """For the whole process."""
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    """Accepts every storage SOP class, private and future ones too, in the first transfer syntax proposed: bytes are
    kept as they come, so nothing needs to be understood. It also spares a copy of 200 contexts per association."""
    _config.LOG_HANDLER_LEVEL = "none"  # the standard log lines hold identifiers, and cost time
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings quote the values
    library = logging.getLogger("pynetdicom")
    library.setLevel(logging.WARNING)
    library.propagate = False
    library.handlers = [_Anonymous()]


class _Anonymous(logging.Handler):
    """Passes on what pynetdicom complains of, without what it quotes, and with places of exceptions for their texts."""

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.msg, BaseException):
            said = logs.place(record.msg)
        else:
            said = _QUOTED.sub("...", record.getMessage().partition("\n")[0])
        _log.log(record.levelno, "pynetdicom, %s line %d: %s", record.module, record.lineno, said)
