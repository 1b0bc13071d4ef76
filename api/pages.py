"""The page /docs: Swagger UI from our own server only."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from headrace.api.openapi import openapi
from headrace.api.problems import Reply, json_reply, not_found

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_START = "start.js"
_PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Headrace: HTTP reference</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
_SCRIPT = b"""SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null});
"""


def find_assets() -> Mapping[str, Path]:
    """Return the files of Swagger UI that are served, by name. Raises FileNotFoundError when it is not installed."""
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("swagger_ui: install the package swagger-ui-py")
    folder = Path(spec.origin).parent / "static"
    return {name: folder / name for name in _TYPES}


class Pages:
    """Serves what people look at."""

    def __init__(self) -> None:
        self._assets = find_assets()

    async def document(self, request: Request) -> Reply:  # noqa: ARG002
        """Return the OpenAPI document."""
        return json_reply(openapi())

    async def page(self, request: Request) -> Reply:  # noqa: ARG002
        """Return the page that shows the document."""
        headers = (
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", _CSP.encode()),
        )
        return Reply(200, _PAGE, headers)

    async def asset(self, request: Request) -> Reply | Response:
        """Return one of the page's files; no other file can be asked for."""
        name = request.path_params["name"]
        if name == _START:
            return Reply(200, _SCRIPT, ((b"content-type", b"text/javascript; charset=utf-8"),))
        if name not in self._assets:
            return not_found()
        return FileResponse(
            self._assets[name], media_type=_TYPES[name], headers={"cache-control": "public, max-age=3600"}
        )
