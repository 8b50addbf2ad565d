"""The page of a configuration's calling rules: where it may call, and how much at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from number_sync.api.parts import CONFIGURATIONS, ONE_CONFIGURATION, Parts
from number_sync.dialling_rules import FIELD, MOST_CALLS_PER_S, MOST_CONCURRENT_CALLS
from number_sync.errors import NumberSyncError
from number_sync.pages.answers import refusals_of, refuse
from number_sync.pages.countries import countries
from number_sync.pages.form_values import seen, ticked_values
from offhook.records import DiallingRules
from offhook.web import PageUser, Site
from offhook.web.forms import Form, text_of

COUNTRIES: Final = f"{FIELD}.countries"
ALLOWED: Final = f"{FIELD}.allowed_prefixes"
DENIED: Final = f"{FIELD}.denied_prefixes"
_NAMED: Final = 4


@dataclass(frozen=True, slots=True)
class RulesForm:
    """What stands in the form: prefixes one a line, limits as typed, '' for none. `seen`: see `form_values.seen`."""

    countries: frozenset[str]
    allowed: str
    denied: str
    concurrent: str
    per_second: str
    seen: int | None


def stored_form(row: Row[Any]) -> RulesForm:
    rules = DiallingRules.model_validate(row.dialling_rules)
    return RulesForm(
        frozenset(rules.countries),
        "\n".join(rules.allowed_prefixes),
        "\n".join(rules.denied_prefixes),
        "" if row.max_concurrent_calls is None else str(row.max_concurrent_calls),
        "" if row.max_calls_per_s is None else f"{row.max_calls_per_s:g}",
        row.updated_at,
    )


def sent_form(form: Form) -> RulesForm:
    return RulesForm(
        frozenset(ticked_values(form, COUNTRIES)),
        text_of(form, ALLOWED),
        text_of(form, DENIED),
        text_of(form, "max_concurrent_calls").strip(),
        text_of(form, "max_calls_per_s").strip(),
        seen(form),
    )


def changes_of(form: RulesForm) -> tuple[dict[str, Any], dict[str, str]]:
    """What the form asks for, and what is wrong with its limits."""
    refusals: dict[str, str] = {}
    changes: dict[str, Any] = {
        FIELD: {
            "countries": sorted(form.countries),
            "allowed_prefixes": _lines(form.allowed),
            "denied_prefixes": _lines(form.denied),
        },
        "max_concurrent_calls": None,
        "max_calls_per_s": None,
    }
    if form.concurrent:
        if form.concurrent.isascii() and form.concurrent.isdigit() and len(form.concurrent) <= 6:
            changes["max_concurrent_calls"] = int(form.concurrent)
        if not 1 <= (changes["max_concurrent_calls"] or 0) <= MOST_CONCURRENT_CALLS:
            refusals["max_concurrent_calls"] = (
                f"A whole number from 1 to {MOST_CONCURRENT_CALLS:,}, or nothing for no limit."
            )
    if form.per_second:
        changes["max_calls_per_s"] = _decimal(form.per_second)
        if not 0.01 <= (changes["max_calls_per_s"] or 0) <= MOST_CALLS_PER_S:
            refusals["max_calls_per_s"] = (
                f"A number from 0.01 to {MOST_CALLS_PER_S:,.0f}, or nothing for no limit."
            )
    return changes, refusals


def summary(row: Row[Any]) -> list[tuple[str, str]]:
    """The rules in a few words: what, and how it is."""
    rules = DiallingRules.model_validate(row.dialling_rules)
    names = {country.region: country.name for country in countries()}
    return [
        ("Countries", _listed([names.get(code, code) for code in rules.countries]) or "Every country"),
        ("Always allowed", _listed(rules.allowed_prefixes) or "–"),
        ("Never allowed", _listed(rules.denied_prefixes) or "–"),
        (
            "Calls at the same time",
            "No limit" if row.max_concurrent_calls is None else f"At most {row.max_concurrent_calls:,}",
        ),
        (
            "New calls per second",
            "No limit" if row.max_calls_per_s is None else f"At most {row.max_calls_per_s:g}",
        ),
    ]


def create_router(site: Site, parts: Parts) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter(include_in_schema=False)
    page = ONE_CONFIGURATION + "/calling-rules"
    template = "calling-rules.html"

    def context(row: Row[Any], form: RulesForm) -> Mapping[str, Any]:
        return {"configuration": row, "form": form, "countries": countries()}

    @router.get(page)
    async def rules_page(request: Request, user: User, configuration_id: str) -> Response:
        row = await parts.configurations.get(user.user_id, configuration_id)
        return site.render(request, template, user, **context(row, stored_form(row)))

    @router.post(page)
    async def save(request: Request, user: User, configuration_id: str) -> Response:
        form = sent_form(await site.form(request, user))
        row = await parts.configurations.get(user.user_id, configuration_id)
        changes, refusals = changes_of(form)
        status = 422
        if not refusals:
            try:
                await parts.configurations.update(user.user_id, configuration_id, changes, seen=form.seen)
            except NumberSyncError as error:
                status, found = refusals_of(error)
                refusals = dict(found)
            else:
                url = f"{CONFIGURATIONS}/{configuration_id}"
                return site.redirect(url, notice="The calling rules are saved.")
        return refuse(site, request, template, user, status, refusals, **context(row, form))

    return router


def _lines(text: str) -> list[str]:
    return [line for line in text.replace(",", "\n").splitlines() if line.strip()]


def _decimal(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _listed(names: "list[str] | tuple[str, ...]") -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
