"""Authorization details (RFC 9396) in the login application: what it is told, and the proof that it has shown them.

Details are allowed only by a user who has seen them. An application that was written before there were any, or that
ignores them, cannot send the proof: then the consent page of this server asks the user instead.
"""

import hashlib

from chalicelib.authorization.descriptions import describe_details
from chalicelib.http.messages import Params
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.server import AuthorizationServer

SHOWN = "authorization_details_shown"
_ID_LENGTH = 16  # characters of the digest: it need not be secret, only different for each object


def tell_details(server: AuthorizationServer, request: AuthorizationRequest) -> list[dict[str, object]]:
    """Return the authorization details of a request as the application shows them, each with its id.

    Raises InvalidAuthorizationDetails when a type was deleted since.
    """
    texts = request.authorization_details or ()
    return [
        {
            "id": _id_of(text),
            "type": detail.type.name,
            "description": detail.type.text,
            "members": [
                {"label": label, "values": [": ".join((*value.path, value.text)) for value in values]}
                for label, values in detail.members
            ],
        }
        for text, detail in zip(texts, describe_details(server, request), strict=True)
    ]


def were_shown(request: AuthorizationRequest, form: Params) -> bool:
    """Return whether a form names exactly the authorization details of a request, by their ids, in any order."""
    named = {each for value in form.get_all(SHOWN) for each in value.split()}
    return named == set(map(_id_of, request.authorization_details or ()))


def _id_of(text: str) -> str:
    return base64url(hashlib.sha256(text.encode()).digest())[:_ID_LENGTH]
