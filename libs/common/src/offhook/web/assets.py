"""The stylesheet, the script and the icon: read once, served under a name that changes with their content."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response

from offhook.http.problems import Problem

_TYPES: Final = {
    "style.css": "text/css; charset=utf-8",
    "script.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Assets:
    """All assets of the package. `version` follows from their content: 12 hexadecimal digits."""

    def __init__(self) -> None:
        folder = files("offhook.web") / "assets"
        self._contents = {name: (folder / name).read_bytes() for name in _TYPES}
        digest = hashlib.sha256()
        for name in sorted(self._contents):
            digest.update(name.encode() + b"\0" + self._contents[name])
        self.version = digest.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Where the asset is, for ever."""
        if name not in self._contents:
            raise KeyError(f"there is no asset {name!r}")
        return f"/assets/{self.version}/{name}"

    def router(self) -> APIRouter:
        """Serves `/assets/{version}/{name}`."""
        router = APIRouter()

        @router.get("/assets/{version}/{name}", include_in_schema=False)
        async def asset(request: Request, version: str, name: str) -> Response:
            content = self._contents.get(name)
            if content is None:
                raise Problem(404, "There is no such asset.")
            tag = f'"{self.version}"'
            # A page of another release, during a deploy: it gets what there is now, and does not keep it.
            lasting = _FOR_EVER if version == self.version else "no-cache"
            headers = {"Cache-Control": lasting, "ETag": tag, "X-Content-Type-Options": "nosniff"}
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers)
            return Response(content, headers=headers, media_type=_TYPES[name])

        return router


@cache
def assets() -> Assets:
    """The assets of this process."""
    return Assets()
