"""`GET /docs`: Swagger UI, from our own address and under our own Content-Security-Policy.

FastAPI's page has its script inline, which that policy forbids; otherwise this is the same.
"""

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from app.routes.playground import Files

router = APIRouter(include_in_schema=False)

SWAGGER_UI = Files(directory=Path(fastapi_offline.__file__).parent / "static")
"""Swagger UI's own files, so that the page works without the internet; to be mounted."""

# Every address is relative, so that the page also works behind a prefix.
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Menny - Swagger UI</title>
<link rel="icon" href="static-offline-docs/favicon.png">
<link rel="stylesheet" href="static-offline-docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="static-offline-docs/swagger-ui-bundle.js"></script>
<script src="docs.js"></script>
</body>
</html>
"""

_SCRIPT = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""


@router.api_route("/docs", methods=["GET", "HEAD"])
async def page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE)


@router.api_route("/docs.js", methods=["GET", "HEAD"])
async def script() -> Response:
    """What the page does."""
    return Response(_SCRIPT, media_type="text/javascript")


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
async def document(request: Request) -> Response:
    """The OpenAPI document, whose bytes are made once."""
    return Response(request.app.openapi_json(), media_type="application/json")
