"""What the operator's login application asks about a request before it shows its page."""

from chalicelib import pages
from chalicelib.authorization.consent import DECISIONS
from chalicelib.authorization.descriptions import describe_access_end, describe_permissions, named_resources
from chalicelib.authorization.external_details import tell_details
from chalicelib.authorization.request import read_stored_request
from chalicelib.http.messages import NO_STORE, Request, Response, json_response
from chalicelib.protocol import redirect_uris
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import OAuthError
from chalicelib.protocol.next_step import can_remember_consent
from chalicelib.protocol.records import Consent
from chalicelib.server import AuthorizationServer


def is_question(server: AuthorizationServer, http: Request) -> bool:
    """Return whether this GET is the application's question what a request is about."""
    wants_json = "application/json" in (http.header("accept") or "").lower()
    return bool(server.settings.login_url) and wants_json and "request_uri" in http.query


def describe_request(server: AuthorizationServer, http: Request) -> Response:
    """Return what a request is about, as JSON that pages of the listed origins can read.

    It contains no secret and does not depend on who is signed in: no cookie is read.
    """
    try:
        response = json_response(_description(server, http))
    except OAuthError as error:
        http.error = error
        response = json_response(error.parameters() | {"error": error.code}, error.status, NO_STORE | error.headers)
    origin = http.header("origin")
    allowed = {"Access-Control-Allow-Origin": origin} if origin in server.settings.login_origins else {}
    return response.add({"Vary": "Origin, Accept", **allowed})


def _description(server: AuthorizationServer, http: Request) -> dict[str, object]:
    request, client = read_stored_request(server, http, http.query.require("request_uri"))
    consent = _remembered_consent(server, client, request.asked_sub) if request.asked_sub else None
    shown = ("client_name", "client_uri", "logo_uri", "policy_uri", "tos_uri")
    return {
        "step": "consent" if request.asked_sub else "sign_in",
        "client": {name: value for name in shown if (value := getattr(client, name)) is not None}
        | ({"host": client.document_host} if client.document_host else {})
        | ({"name_not_checked": True} if client.document_host or client.registered_with else {}),
        "host": pages.host_of(request.redirect_uri),
        "on_device": True if redirect_uris.can_be_impersonated(request.redirect_uri) else None,
        "scopes": [
            {"scope": permission.name, "description": permission.description, "allowed": permission.allowed}
            | ({"resource": permission.resource.uri} if permission.resource else {})
            for permission in describe_permissions(server, request, consent)
        ],
        "authorization_details": tell_details(server, request),
        "resources": [{"uri": each.uri, "name": each.name} for each in named_resources(server, request)],
        "decisions": [each for each in DECISIONS if each != "allow_always" or can_remember_consent(request, client)],
        "access_end": describe_access_end(server, client, request.scope),
        "login_hint": request.login_hint,
        "ui_locales": list(request.ui_locales),
        "action": server.issuer + http.path,
        "expires_in": request.expires_at - server.now(),
    }


def _remembered_consent(server: AuthorizationServer, client: Client, sub: str) -> Consent | None:
    store = server.store
    user, consent = store.read(store.users.lookup(sub), store.consents.lookup(sub, client.client_id))
    return consent.valid_for(user, client) if user and consent else None
