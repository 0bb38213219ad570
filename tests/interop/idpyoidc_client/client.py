"""A relying party with idpyoidc that pushes its request and authenticates by private_key_jwt.

It reads its task from standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's
browser, and when it has read the `url` of the redirect, the result. With `register`, it registers itself first.

Its support of pushed requests sends a request object and expects the status 200, where RFC 9126 section 2.2 has 201.
So this program sends the request, which idpyoidc has made and to which it adds the client assertion.
"""

import json
import sys
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from cryptojwt import KeyJar
from idpyoidc.client.client_auth import PrivateKeyJWT
from idpyoidc.client.oauth2.stand_alone_client import StandAloneClient
from idpyoidc.message import Message


def read() -> Any:
    return json.loads(sys.stdin.readline())


def write(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def make_client(task: dict[str, Any]) -> Any:
    """Return a client that knows the metadata of the server, and is registered."""
    keys = KeyJar()
    keys.import_jwks({"keys": [task["private_key"]]}, "")
    config = {
        "issuer": task["issuer"],
        "redirect_uris": [task["redirect_uri"]],
        "response_types_supported": ["code"],
        "client_authn_methods": ["private_key_jwt"],
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg": task["private_key_alg"],
        "token_endpoint_auth_signing_alg_values_supported": [task["private_key_alg"]],
        "id_token_signing_alg_values_supported": ["RS256"],
        "add_ons": {
            "pkce": {
                "function": "idpyoidc.client.oauth2.add_on.pkce.add_support",
                "kwargs": {"code_challenge_length": 64, "code_challenge_method": "S256"},
            }
        },
    }
    if "client_id" in task:
        config["client_id"] = task["client_id"]
    client = StandAloneClient(client_type="oidc", config=config, keyjar=keys)
    client.do_provider_info()
    client.do_client_registration(request_args=task.get("register"))
    return client


def push(client: Any, task: dict[str, Any], url: str) -> str:
    """Push the authorization request of a URL; return the URL with the reference to it."""
    address, _, query = url.partition("?")
    request = Message(**dict(parse_qsl(query)))
    PrivateKeyJWT().construct(
        request,
        client.get_service("authorization"),
        audience=task["issuer"],
        algorithm=task["private_key_alg"],
        client_id=client.get_client_id(),
    )
    endpoint = client.get_context().provider_info["pushed_authorization_request_endpoint"]
    answer = requests.post(endpoint, data=request.to_dict(), timeout=30)
    assert answer.status_code == 201, answer.text
    return f"{address}?" + urlencode({"client_id": client.get_client_id(), "request_uri": answer.json()["request_uri"]})


def main() -> None:
    task = read()
    client = make_client(task)
    url = client.init_authorization(req_args={"scope": task["scope"].split()})
    write({"open": push(client, task, url)})

    response = client.finalize_auth(dict(parse_qsl(urlsplit(read()["url"]).query)))
    state = response["state"]
    # idpyoidc puts the token endpoint into the aud of its assertions, unless it is told otherwise.
    signing = {"algorithm": task["private_key_alg"]}
    if task["audience"] == "issuer":
        signing["audience"] = task["issuer"]
    current = client.get_context().cstate.get_set(state, claim=["code", "redirect_uri"])
    # Its name is not the one of a client that has registered itself, unless it is told so.
    signing["client_id"] = client.get_client_id()
    authenticated = {"authn_method": "private_key_jwt", "state": state, **signing}
    tokens = client.do_request(
        "accesstoken",
        request_args={
            "code": current["code"],
            "redirect_uri": current["redirect_uri"],
            "state": state,
            "grant_type": "authorization_code",
            "client_id": client.get_client_id(),
        },
        **authenticated,
    )
    assert "error" not in tokens, tokens.to_dict()
    userinfo = client.get_user_info(state, tokens["access_token"])
    refreshed = None
    if "refresh_token" in tokens:
        refreshed = client.do_request("refresh_token", request_args={}, **authenticated)
        assert "error" not in refreshed, refreshed.to_dict()
    write(
        {
            "client_id": client.get_client_id(),
            "claims": tokens["__verified_id_token"].to_dict(),
            "userinfo": userinfo.to_dict(),
            "refreshed": refreshed and refreshed["access_token"] != tokens["access_token"],
        }
    )


main()
