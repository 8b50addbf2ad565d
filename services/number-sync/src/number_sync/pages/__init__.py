"""The pages: telephony configurations, phone numbers, workflows.

    configurations.py  calling_rules.py  phone_numbers.py  imports.py  workflows.py     routes, one module a resource
    guide.py  sync_view.py  verification_view.py  configuration_view.py  trial_view.py  calling.py     what a page says; pure
    credential_inputs.py  form_values.py  workflow_form.py  refusals.py  answers.py     forms, and what is wrong with them
    reading.py     what pages read beside the domain's own lists
    templates/     one template a page, and one for each piece that follows what happens

Routes call the domain directly. Secrets go into no page: only their masks do.
"""

from pathlib import Path
from typing import Final

from fastapi import APIRouter

from number_sync.api.parts import Parts
from number_sync.pages import calling_rules, configurations, imports, phone_numbers, workflows
from number_sync.pages.countries import readable
from offhook.web import Site

TEMPLATES: Final = Path(__file__).parent / "templates"

__all__ = ["TEMPLATES", "create_pages"]


def create_pages(site: Site, parts: Parts) -> APIRouter:
    """All pages. `site` has `TEMPLATES` as its templates."""
    site.filters["readable"] = readable
    router = APIRouter()
    for module in (configurations, calling_rules, imports, phone_numbers, workflows):
        router.include_router(module.create_router(site, parts))
    return router
