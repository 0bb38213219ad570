"""Clients with a profile of FAPI 2.0, as `client create --profile` registers them."""

from typing import Any

from infra.operator.client_changes import with_profile
from tests.support.assertions import KeyPair, key_pair
from tests.support.site import Registered, Site


def fapi_client(site: Site, pair: KeyPair | None = None, profile: str = "fapi2", **members: Any) -> Registered:
    """Register a client with a profile and a key; `members` as its operator gives them."""
    given = {
        "redirect_uris": ["https://client.example.com/cb"],
        "scope": "openid profile email offline_access",
    } | members
    if "jwks_uri" not in given:
        given["jwks"] = (pair or key_pair()).jwks
    given["profile"] = profile
    return site.client(**with_profile(given, given))
