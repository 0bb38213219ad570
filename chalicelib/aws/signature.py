"""Signature Version 4 in the header `Authorization`.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. Only for what AWS's JSON
protocols need: a path and a query of unreserved characters, the query in the order of its names.
"""

import hashlib
import hmac
import time
from functools import cache
from urllib.parse import urlsplit

from chalicelib.aws.credentials import Credentials
from chalicelib.aws.messages import Request

_ALGORITHM = "AWS4-HMAC-SHA256"


class Signer:
    """Signs requests to one service in one region. Derives a key once a day, and again for other credentials."""

    def __init__(self, service: str, region: str):
        self._service = service
        self._region = region
        self._key: tuple[tuple[str, str], bytes] = (("", ""), b"")

    def sign(self, request: Request, credentials: Credentials, now: float) -> None:
        """Add the time, the session token and the signature to a request. `now`: seconds since 1970."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        headers = request.headers
        headers["X-Amz-Date"] = moment
        headers.pop("Authorization", None)
        headers.pop("X-Amz-Security-Token", None)
        if credentials.session_token:
            headers["X-Amz-Security-Token"] = credentials.session_token
        host, target = target_of(request.url)
        path, _, query = target.partition("?")
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        signed.pop("user-agent", None)  # a proxy may change it
        signed["host"] = host
        names = sorted(signed)
        listed = ";".join(names)
        lines = (
            *(request.method, path, query),
            *(f"{name}:{signed[name]}" for name in names),
            *("", listed, hashlib.sha256(request.body).hexdigest()),
        )
        scope = f"{moment[:8]}/{self._region}/{self._service}/aws4_request"
        canonical = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        text = f"{_ALGORITHM}\n{moment}\n{scope}\n{canonical}"
        signature = hmac.digest(self._signing_key(credentials, moment[:8]), text.encode(), "sha256").hex()
        credential = f"{credentials.access_key_id}/{scope}"
        headers["Authorization"] = (
            f"{_ALGORITHM} Credential={credential}, SignedHeaders={listed}, Signature={signature}"
        )

    def _signing_key(self, credentials: Credentials, day: str) -> bytes:
        needed = (credentials.secret_access_key, day)
        derived_for, key = self._key
        if derived_for != needed:
            key = ("AWS4" + credentials.secret_access_key).encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = (needed, key)  # one assignment: other threads see both parts
        return key


@cache
def target_of(url: str) -> tuple[str, str]:
    """Return the value of the header `Host` for a URL, and the path with the query to request."""
    parts = urlsplit(url)
    default = {"http": ":80", "https": ":443"}[parts.scheme]
    return parts.netloc.lower().removesuffix(default), (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
