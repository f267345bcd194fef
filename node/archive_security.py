"""Whether the certificates and credentials that the settings name for an archive can be used. They are read anew for
each association or request, so that a renewal needs no restart; this is for the operator who wants to know beforehand.
"""

from __future__ import annotations

from node.association import tls_of
from node.settings_delivery import ArchiveSettings
from node.transport_security import BadCertificates, client_context
from node.web_session import BadCredentials, WebServer, session_of


def why_unusable(archive: ArchiveSettings) -> str:
    """What is wrong with a file, naming its key; empty when all is well."""
    try:
        if archive.tls:
            client_context(tls_of(archive))
        if archive.stow_url:
            session_of(web_server_of(archive, connect_timeout_s=1)).close()
    except (BadCertificates, BadCredentials) as error:
        return f"archives.{archive.name}: {error}"
    return ""


def way_there(archive: ArchiveSettings) -> str:
    """In words: ``PACS@192.0.2.10:104, with TLS`` or ``https://pacs.example/dicom-web (STOW-RS), with a token``."""
    if not archive.stow_url:
        how = "with TLS and a certificate of ours" if archive.tls_certificate_file else "with TLS"
        where = f"{archive.ae_title}@{archive.host}:{archive.port}"
        return f"{where}, {how}" if archive.tls else f"{where}, without TLS"
    secret = "a token" if archive.stow_token_file else "a password" if archive.stow_password_file else "no credentials"
    return f"{archive.stow_url} (STOW-RS), with {secret}"


def web_server_of(archive: ArchiveSettings, connect_timeout_s: float) -> WebServer:
    """An archive of the settings that is reached by DICOMweb."""
    return WebServer(
        url=archive.stow_url.rstrip("/"),
        token_file=archive.stow_token_file,
        password_file=archive.stow_password_file,
        tls=tls_of(archive),
        connect_timeout_s=connect_timeout_s,
    )
