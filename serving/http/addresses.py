"""Where a request comes from, and whom it says it is for. Nothing here trusts what a client wrote."""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from starlette.datastructures import Headers

from serving.errors import InvalidRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(
    r"(?P<name>\[(?=[^]]*:)[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_-][A-Za-z0-9._-]{0,252})(:(?P<port>[0-9]{1,5}))?"
)
_SAFE_METHODS = {"GET", "HEAD"}
_LONGEST = 64  # characters of an address, with its zone
_MOST_HOPS = 20  # of a forwarded address, as many as are looked at


def name_in(host: str) -> str | None:
    """The name or address in a Host header, lower case and without port and brackets; None for anything else."""
    match = _HOST.fullmatch(host)
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        return None
    return match["name"].strip("[]").rstrip(".").lower() or None


def is_address(name: str) -> bool:
    """Whether it is an IP address, and no name."""
    return _parsed(name) is not None


def from_here(headers: Headers, method: str, origins: Sequence[str]) -> bool:
    """Whether a request comes from this server's own page, from no page, or from one of `origins`."""
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None:
        return origin in origins or origin in (f"http://{host}", f"https://{host}")
    # A browser that sends no Origin says by this whose page it was. A link may be followed, a form may not be sent.
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
    return site in {"none", "same-origin"} or (mode == "navigate" and method in _SAFE_METHODS)


def sender(peer: str, headers: Headers, proxies: Sequence[Network]) -> str:
    """Who asks: the peer, or whom a trusted proxy names; an IPv4 address, or the /64 that one person has of IPv6."""
    hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",")]
    name = peer
    for hop in reversed(hops[-_MOST_HOPS:]):
        if not within(name, proxies) or _parsed(hop) is None:
            break
        name = hop
    return network_of(name)


def networks_in(texts: Sequence[str], flag: str) -> tuple[Network, ...]:
    """Addresses and networks. Raises InvalidRequest for what is neither."""
    try:
        return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise InvalidRequest(f"{flag} must be an address or a network, as 10.0.0.0/8: {error}.") from error


def within(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks."""
    ip = _parsed(address)
    return ip is not None and any(ip in network for network in networks)


def network_of(address: str) -> str:
    """An IPv4 address as it is, an IPv6 one as its /64; what is neither stays."""
    ip = _parsed(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(ip), 64), strict=False))
    return address if ip is None else str(ip)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    return _address(text) if len(text) <= _LONGEST else None


@lru_cache(1024)  # of a crowd's connections the most are from a few
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
