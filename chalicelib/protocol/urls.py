"""The form of the URLs that settings may have."""

import re
from ipaddress import IPv6Address

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)*"
)


def match_url(text: str) -> re.Match[str] | None:
    """Match an http or https URL of scheme, host, port and path, without dot segments and trailing slash."""
    url = _URL.fullmatch(text)
    if not url or int(url["port"] or 1) not in range(1, 65536):
        return None
    try:
        return url if url["host"][0] != "[" or IPv6Address(url["host"][1:-1]) else None
    except ValueError:
        return None
