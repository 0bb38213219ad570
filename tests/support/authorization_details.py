"""Types of authorization details, and requests for them (RFC 9396)."""

import json
from typing import Any

from chalicelib.protocol.authorization_type import AuthorizationType, type_key
from tests.support.resource_servers import register_resource
from tests.support.site import Registered, Site

PAYMENTS = "https://api.example.com/payments"
ALBUMS = "https://api.example.com/albums"
PAYMENT = {
    "type": "payment",
    "instructedAmount": {"currency": "EUR", "amount": "123.50"},
    "creditorName": "Merchant A",
}
ALBUM = {"type": "album", "locations": [ALBUMS], "actions": ["read", "write"], "identifier": "holidays"}
ANYWHERE = {"type": "anywhere", "actions": ["list"], "datatypes": ["contacts", "photos"]}
TYPES = ("payment", "album", "anywhere")


def register_type(site: Site, name: str, text: str, *members: str, **fields: Any) -> AuthorizationType:
    """Register a type, or replace it, as the operator would."""
    type_ = AuthorizationType(type_key(name), name, text, members=members, **fields)
    site.server.store.authorization_types.put(type_)
    site.server.forget_cached_records()
    return type_


def register_types(site: Site) -> None:
    """Register the types of TYPES: `payment` is of one resource, `album` of its locations, `anywhere` of all."""
    register_resource(site, PAYMENTS, "payments.read")
    register_resource(site, ALBUMS)
    register_type(
        site,
        "payment",
        "Make a payment",
        *("instructedAmount", "creditorName=Payee", "creditorAccount", "locations", "recurring"),
        uri=PAYMENTS,
        required=frozenset({"instructedAmount"}),
    )
    register_type(site, "album", "Use one of your albums", "locations", "actions", "identifier=Album")
    common = ("locations", "actions", "datatypes", "identifier", "privileges")
    register_type(site, "anywhere", "Use your data", *common, self_registered=True)


def register_asking_client(site: Site, **members: Any) -> Registered:
    """Register the types, and a client that may ask for all of them, without a consent page unless it says so."""
    register_types(site)
    given: dict[str, Any] = {"trusted": True, "scope": "openid email offline_access payments.read other"}
    return site.client(**given | {"authorization_details_types": TYPES} | members)


def as_json(*details: Any) -> str:
    """Return authorization details as a parameter."""
    return json.dumps(list(details))
