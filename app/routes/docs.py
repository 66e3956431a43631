"""`GET /docs`: Swagger UI, from our own address and under our own Content-Security-Policy.

FastAPI's page has its script inline, which that policy forbids; otherwise this is the same.
"""

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

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


@router.get("/docs")
async def page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE)


@router.get("/docs.js")
async def script() -> Response:
    """What the page does."""
    return Response(_SCRIPT, media_type="text/javascript")
