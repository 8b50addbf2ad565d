"""How pages answer a form that is refused, and who may see them."""

from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from number_sync.errors import ConflictError, LimitError, NumberSyncError, OutdatedError
from number_sync.pages.refusals import Refusals, domain_refusals, validation_refusals
from offhook.web import PageUser, Site


def refusals_of(error: ValidationError | NumberSyncError, *, field: str = "") -> tuple[int, Refusals]:
    """The status to answer with, and the objections. `field`: where one belongs that names no field."""
    if isinstance(error, ValidationError):
        return 422, validation_refusals(error)
    if isinstance(error, ConflictError):
        return 409, domain_refusals(error, field="" if isinstance(error, OutdatedError) else field)
    return (409 if isinstance(error, LimitError) else 422), domain_refusals(error)


def refuse(
    site: Site,
    request: Request,
    template: str,
    user: PageUser,
    status: int,
    refusals: Refusals,
    **context: Any,
) -> Response:
    """The form again, with each objection at its field; '' is of the form as a whole."""
    fields = {name: text for name, text in refusals.items() if name}
    return site.refuse(request, template, user, fields, status=status, detail=refusals.get(""), **context)
