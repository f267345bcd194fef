"""Does a host's name lead anywhere? pynetdicom raises on one that does not, where it reports every other failure."""

from __future__ import annotations

import socket


def why_unknown(host: str, port: int) -> str:
    """Why the host cannot be found, in one sentence; empty when it can."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return f"cannot find the host {host}: {getattr(error, 'strerror', None) or type(error).__name__}"
    return ""
