"""The address of the page as a QR code, for a phone to open it."""

from io import BytesIO

import segno
from starlette.requests import Request
from starlette.responses import Response

QR_PATH = "/address.svg"


def qr_code(request: Request) -> Response:
    """GET /address.svg: where the browser found this page, by a host that has been looked at before."""
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    address = f"{'https' if scheme == 'https' else 'http'}://{request.headers.get('host', '')}/"
    drawn = BytesIO()
    segno.make_qr(address).save(drawn, kind="svg", scale=4, dark="#000", light="#fff", xmldecl=False)
    return Response(drawn.getvalue(), media_type="image/svg+xml", headers={"cache-control": "no-store"})
