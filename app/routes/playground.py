"""The page at `/`: files of `app/playground`, served as they are; there is no build step."""

from os import PathLike, stat_result
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

ROOT = Path(__file__).resolve().parent.parent / "playground"

router = APIRouter(include_in_schema=False)


class Files(StaticFiles):
    """Files that browsers keep, but ask about each time: after an update nobody sees an old one."""

    def file_response(
        self,
        full_path: PathLike[str] | str,
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """The whole file, always: none is worth resuming."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Accept-Ranges"] = "none"
        return response


_FILES = Files(directory=ROOT, check_dir=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The playground."""
    return await _FILES.get_response("index.html", request.scope)


@router.api_route("/playground/{path:path}", methods=["GET", "HEAD"])
async def file(path: str, request: Request) -> Response:
    """What the page is made of."""
    return await _FILES.get_response(path, request.scope)
