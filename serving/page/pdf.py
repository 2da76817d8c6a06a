"""Mozilla's pdf.js, by which a browser reads PDFs: in pdfjs/ as npm has it, the legacy build of pdfjs-dist 5.6.205."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_FOLDER = Path(__file__).parent / "pdfjs"
_FILES = ("pdf.min.mjs", "pdf.worker.min.mjs")
# What reads a stranger's file reaches nothing: a worker's own answer says what it may.
_HEADERS = {"content-security-policy": "default-src 'none'", "cache-control": "no-store"}


def routes() -> list[BaseRoute]:
    """GET /pdfjs/NAME, for a page that is given a PDF."""
    return [Route(f"/pdfjs/{name}", _library, methods=["GET"]) for name in _FILES]


def _library(request: Request) -> Response:
    name = request.url.path.rpartition("/")[2]
    return Response((_FOLDER / name).read_bytes(), media_type="text/javascript", headers=_HEADERS)
