"""A real Chromium, from Debian's package, driven by Playwright: what people see is tested where they see it.

Playwright's own download of a browser is never used: the one of the system gets its security updates.
"""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from offhook_dev import system_packages
from offhook_dev.errors import DevError
from offhook_dev.servers import Say, say_on_stderr

if TYPE_CHECKING:
    from playwright.async_api import Browser

_NAMES: Final = ("chromium", "chromium-browser")
# Nothing leaves this machine: no updates, no reports, no proxy, and no name but this machine's own is resolved.
_FLAGS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
_STARTS_WITHIN_MS: Final = 60_000
# How long `expect` waits for what a page should show, on busy machines too: Playwright's own five seconds are too few.
_SHOWS_WITHIN_MS: Final = 60_000


def install(say: Say = say_on_stderr) -> Path:
    """Make sure that there is a Chromium; returns its executable. Raises `DevError`."""
    found = _executable()
    if found is None:
        reason = "Chromium is missing"
        system_packages.install("chromium", reason=reason, say=say)
        found = _executable()
    if found is None:
        raise DevError(f"Chromium is missing: none of {', '.join(_NAMES)} is on the PATH.")
    return found


@contextlib.asynccontextmanager
async def launched() -> AsyncIterator["Browser"]:
    """A running Chromium without a window, as a Playwright `Browser`. Raises `DevError`."""
    # Here, because every test run imports this module and few of them open a browser.
    from playwright.async_api import Error, async_playwright, expect

    expect.set_options(timeout=_SHOWS_WITHIN_MS)
    executable = install()
    # Its sandbox needs a user of its own; what is opened here is ours.
    flags = [*_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else [*_FLAGS]
    async with async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(
                executable_path=executable, headless=True, args=flags, timeout=_STARTS_WITHIN_MS
            )
        except Error as error:
            said = error.message.strip().splitlines()
            raise DevError(f"{executable} does not start: {said[0][:300] if said else 'no word'}") from error
        try:
            yield browser
        finally:
            await browser.close()


def _executable() -> Path | None:
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    return None
