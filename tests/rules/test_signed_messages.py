"""The algorithms that a client may register, for what the server signs for it and for what it signs itself."""

from typing import Any

import pytest

from chalicelib.clients.signed_messages import check_algorithms, check_signed_requests
from chalicelib.keys.client_keys import ACCEPTED
from chalicelib.keys.signing import ALGORITHMS
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClientMetadata
from tests.support.assertions import key_pair

KINDS = ("id_token", "access_token", "userinfo", "authorization", "introspection")


def client(**members: Any) -> Client:
    given: dict[str, Any] = {f"{kind}_signed_response_alg": "ES256" for kind in KINDS}
    return Client("c", "C", (), **(given | members))


@pytest.mark.parametrize("kind", KINDS)
def test_server_signs_with_an_algorithm_that_it_has(kind: str) -> None:
    name = f"{kind}_signed_response_alg"
    for alg in ALGORITHMS:
        check_algorithms(client(**{name: alg}), ALGORITHMS)
    for alg in ("HS256", "none", "", "RS256"):
        with pytest.raises(InvalidClientMetadata, match=f"The {name} must be one of: ES256$"):
            check_algorithms(client(**{name: alg}), ("ES256",))


@pytest.mark.parametrize("kind", KINDS)
def test_only_tokens_are_always_signed(kind: str) -> None:
    unsigned = client(**{f"{kind}_signed_response_alg": None})
    if kind in ("id_token", "access_token"):
        with pytest.raises(InvalidClientMetadata, match=kind):
            check_algorithms(unsigned, ALGORITHMS)
    else:
        check_algorithms(unsigned, ALGORITHMS)


def test_client_signs_requests_with_an_accepted_algorithm_and_registered_keys() -> None:
    for alg in (None, *ACCEPTED):
        check_signed_requests(Client("c", "C", (), request_object_signing_alg=alg))
    for alg in ("HS256", "none", ""):
        with pytest.raises(InvalidClientMetadata, match="request_object_signing_alg must be one of"):
            check_signed_requests(Client("c", "C", (), request_object_signing_alg=alg))
    with pytest.raises(InvalidClientMetadata, match="register public keys"):
        check_signed_requests(Client("c", "C", (), require_signed_request_object=True))
    check_signed_requests(Client("c", "C", ()))
    check_signed_requests(Client("c", "C", (), require_signed_request_object=True, jwks=key_pair().jwks))
    check_signed_requests(Client("c", "C", (), require_signed_request_object=True, jwks_uri="https://a.example/jwks"))
