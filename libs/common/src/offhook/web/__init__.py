"""The pages people see: one design for every service, rendered here, working without script.

    site.py     what a service's pages are made with: rendering, who is logged in, redirects with a notice
    login.py    /login and /logout, and how often somebody may try
    forms.py    what a form sent, bounded, and proof that it came from our page
    live.py     pieces of a page that follow what happens (server-sent events)
    errors.py   problems as pages, for people; security headers
    assets.py   the stylesheet and the script, under names that change with their content

Templates of a service extend `base.html` and use the macros of `forms.html` and `parts.html`.
"""

from offhook.web.forms import Form
from offhook.web.site import PageUser, Site

__all__ = ["Form", "PageUser", "Site"]
