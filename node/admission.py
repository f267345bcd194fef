"""Who may associate: the rules of the settings, applied to one request. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from node.settings import ReceiverSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """An A-ASSOCIATE request, and how full the node is; the counts are without this one."""

    calling_ae_title: str
    called_ae_title: str
    open_associations: int
    open_of_this_address: int
    open_of_this_title: int
    """Under the same calling AE title, from wherever."""
    has_room: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """The three numbers of an A-ASSOCIATE-RJ (PS3.8 section 9.3.4), and why."""

    result: int
    source: int
    diagnostic: int
    why: str
    """For the operator: the setting that decides."""
    kind: str
    """For counting: names nobody."""


_PERMANENT, _TRANSIENT = 1, 2
_SERVICE_USER, _PRESENTATION = 1, 3
_CALLING_AE_TITLE, _CALLED_AE_TITLE = 3, 7
_LOCAL_LIMIT = 2


def refusal(request: Request, settings: ReceiverSettings) -> Refusal | None:
    """Why the association is refused; None when it is not."""
    if settings.require_called_ae_title and request.called_ae_title != settings.ae_title:
        why = f"it called {request.called_ae_title!r}, not receiver.ae_title {settings.ae_title!r}"
        return _for_good(_CALLED_AE_TITLE, why, "called another AE title than receiver.ae_title")
    if settings.allowed_calling_ae_titles and request.calling_ae_title not in settings.allowed_calling_ae_titles:
        why = "it is not in receiver.allowed_calling_ae_titles"
        return _for_good(_CALLING_AE_TITLE, why, "not in receiver.allowed_calling_ae_titles")
    if request.open_associations >= settings.maximum_associations:
        return _for_now(f"receiver.maximum_associations ({settings.maximum_associations}) are open")
    if request.open_of_this_address >= settings.maximum_associations_per_address:
        most = settings.maximum_associations_per_address
        return _for_now(f"receiver.maximum_associations_per_address ({most}) are open")
    if request.open_of_this_title >= settings.maximum_associations_per_calling_ae_title:
        most = settings.maximum_associations_per_calling_ae_title
        return _for_now(f"receiver.maximum_associations_per_calling_ae_title ({most}) are open")
    if not request.has_room:
        return _for_now("the disk is below its watermark (receiver.minimum_free_mb)")
    return None


def _for_good(diagnostic: int, why: str, kind: str) -> Refusal:
    return Refusal(result=_PERMANENT, source=_SERVICE_USER, diagnostic=diagnostic, why=why, kind=kind)


def _for_now(why: str) -> Refusal:
    return Refusal(result=_TRANSIENT, source=_PRESENTATION, diagnostic=_LOCAL_LIMIT, why=why, kind=why)
