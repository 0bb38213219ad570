"""`doctor --as`: the sequence of requests that an MCP client performs, up to the sign-in page."""

import html
import re
import ssl
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_urlsafe
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from infra.operator.doctor.assistants import ASSISTANTS
from infra.operator.doctor.connection import Connection, discover
from infra.operator.doctor.findings import Finding, Verdict, judge, skipped
from infra.operator.doctor.visit import REDEPLOY, Answer, Unreachable

_WRONG_CODE = "signet-doctor-wrong-code"
_MAX_REDIRECTS = 3
_HEADING = re.compile(r"<h1[^>]*>(.*?)</h1>", re.DOTALL)
_FIXES = {
    "invalid_target": "Register the MCP server: `signet resource create {resource} --scope …`, or compare the spelling"
    " with `signet resource list`. The log names similar ones.",
    "invalid_scope": "Add the scopes to the resource (`signet resource update … --add-scope …`), and to"
    " SIGNET_OPEN_CLIENT_SCOPE.",
    "invalid_redirect_uri": "Allow the kinds of its redirect URIs in SIGNET_OPEN_CLIENT_REDIRECTS.",
    "invalid_client": "Look in the server's log for the reason: its document may not be available to the server.",
}


_DOCUMENT_FIX = (
    "Add {host} to SIGNET_CLIENT_DOCUMENT_HOSTS. If it is there, the server's log says why the document cannot be used;"
    " `signet client pin {document} FILE` uses a copy of it."
)


@dataclass
class _Registered:
    """The client that the requests name: `management` has the address and the token that delete it again."""

    client_id: str = ""
    management: tuple[str, str] | None = None
    from_document: bool = False


def connect(name: str, url: str, trust: ssl.SSLContext | None = None) -> Iterator[Finding]:
    """Yield a finding for each step of the client called `name`, until one fails without which it cannot go on."""
    connection, client = Connection(ASSISTANTS[name], url.rstrip("/") if _is_root(url) else url, trust), _Registered()
    verdict: Finding | None = None
    for verdict in discover(connection):
        yield verdict
    if verdict is None or not verdict.ok:
        return
    for step, check in _PROPERTIES:
        yield _run(step, lambda check=check: check(connection))  # type: ignore[misc]
    try:
        registration = _run("client registration", lambda: _register(connection, client))
        yield registration
        if registration.ok:
            for step, request in (("authorization request", _authorize), ("token request", _redeem)):
                yield _run(step, lambda request=request: request(connection, client))  # type: ignore[misc]
        if connection.assistant.origin:
            yield _run("CORS", lambda: _cors(connection))
    finally:
        management = client.management
        deleted = _run("end of registration", lambda: _delete(connection, client, *management)) if management else None
    if deleted:
        yield deleted


def _is_root(url: str) -> bool:
    return urlsplit(url).path in ("", "/")


def _run(name: str, check: Callable[[], Verdict]) -> Finding:
    try:
        verdict = check()
    except (Unreachable, ValueError) as error:
        verdict = Verdict(False, f"No response: {error}.", "Look in the server's log at that time.")
    return Finding(name, verdict.ok, verdict.detail, verdict.fix)


def _names_issuer(connection: Connection) -> Verdict:
    announced = connection.metadata.get("authorization_response_iss_parameter_supported") is True
    problems = [] if announced else ["The metadata has no authorization_response_iss_parameter_supported (RFC 9207)"]
    return judge(problems, "Authorization responses name the issuer (RFC 9207).", REDEPLOY)


def _supports_pkce(connection: Connection) -> Verdict:
    problems = [] if "S256" in connection.list("code_challenge_methods_supported") else ["S256 is not offered"]
    return judge(problems, "PKCE with S256 is offered.", REDEPLOY)


def _accepts_public_clients(connection: Connection) -> Verdict:
    offered = "none" in connection.list("token_endpoint_auth_methods_supported")
    problems = [] if offered else ["token_endpoint_auth_methods_supported lacks none"]
    return judge(problems, "Public clients are accepted (none).", REDEPLOY)


_PROPERTIES = (
    ("issuer in responses", _names_issuer),
    ("PKCE", _supports_pkce),
    ("public clients", _accepts_public_clients),
)


def _register(connection: Connection, client: _Registered) -> Verdict:
    """Use the client's document if the server accepts documents, and otherwise register it."""
    assistant, metadata = connection.assistant, connection.metadata
    accepted = metadata.get("client_id_metadata_document_supported") is True
    has_iss = metadata.get("authorization_response_iss_parameter_supported") is True
    if assistant.document and accepted and (has_iss or not assistant.document_needs_iss):
        client.client_id, client.from_document = assistant.document, True
        return Verdict(True, f"It uses its document {assistant.document}, which the server fetches.")
    endpoint = metadata.get("registration_endpoint")
    if not isinstance(endpoint, str):
        problem = "There is no registration_endpoint"
        fix = "Set SIGNET_CLIENT_REGISTRATION=open."
        if assistant.document:
            problem += ", and client ID metadata documents are not accepted"
            host = urlsplit(assistant.document).hostname
            fix = f"Set SIGNET_CLIENT_DOCUMENTS=list with {host} in SIGNET_CLIENT_DOCUMENT_HOSTS, or" + fix[3:]
        return Verdict(False, f"{problem}.", fix)
    scope = connection.requested_scope.strip()
    answer = connection.ask("POST", endpoint, headers=_origin(connection), document=assistant.registration(scope))
    return _read_registration(connection, client, answer)


def _read_registration(connection: Connection, client: _Registered, answer: Answer) -> Verdict:
    members = answer.members
    token, address = members.get("registration_access_token"), members.get("registration_client_uri")
    if isinstance(token, str) and isinstance(address, str):
        client.management = (address, token)
    if answer.status == 401:
        fix = "Set SIGNET_CLIENT_REGISTRATION=open: this client has no initial access token."
        return Verdict(False, "The registration needs an initial access token (status 401).", fix)
    if answer.status != 201 or not isinstance(members.get("client_id"), str):
        return Verdict(False, f"The registration is rejected: {_problem(answer)}.", _fix(connection, answer))
    client.client_id = members["client_id"]
    problems = []
    if members.get("token_endpoint_auth_method") != "none":
        problems.append(f"It was registered with {members.get('token_endpoint_auth_method')!r} instead of none")
    if members.get("redirect_uris") != list(connection.assistant.redirect_uris):
        problems.append("It was registered with other redirect URIs than it has sent")
    return judge(problems, f"It was registered as {client.client_id}.", "Compare the policy of registrations.")


def _authorize(connection: Connection, client: _Registered) -> Verdict:
    """Send the authorization request, and follow it to a page or to the client's redirect URI."""
    assistant, scope = connection.assistant, connection.requested_scope
    verifier = token_urlsafe(32)
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asks = assistant.asks_for_consent and "offline_access" in scope.split()
    parameters = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": assistant.redirect_uris[0],
        "state": token_urlsafe(16),
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **({"scope": scope} if scope else {}),
        **({"resource": connection.resource} if connection.resource else {}),
        **({"prompt": "consent"} if asks else {}),
    }
    endpoint = str(connection.metadata["authorization_endpoint"])
    url = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"
    for _ in range(_MAX_REDIRECTS):
        answer = connection.ask("GET", url)
        location = answer.header("location")
        if answer.status not in (302, 303, 307):
            break
        if location.startswith(assistant.redirect_uris[0]):
            return _read_error(connection, location)
        url = urljoin(url, location)
    if answer.status == 200:
        sent = f" for the scope {scope.strip()}" if scope.strip() else ""
        return Verdict(True, f"The sign-in page opens{sent}.")
    return Verdict(False, f"No sign-in page, but {_problem(answer)}.", _fix(connection, answer, client))


def _read_error(connection: Connection, location: str) -> Verdict:
    """Return the failure that an authorization response at the redirect URI names."""
    response = dict(parse_qsl(urlsplit(location).query))
    error = response.get("error", "")
    detail = f"The client gets {error or 'a response without an error'}: {response.get('error_description', '')}"
    fix = _FIXES.get(error, "Look in the server's log at that time.").format(resource=connection.resource)
    return Verdict(False, f"{detail.rstrip('.: ')}.", fix)


def _redeem(connection: Connection, client: _Registered) -> Verdict:
    """Send a code that was never issued: `invalid_grant` means that the client was authenticated."""
    offered = connection.list("token_endpoint_auth_methods_supported")
    if client.from_document and connection.assistant.signs and "private_key_jwt" in offered:
        return skipped("The client authenticates with private_key_jwt, and only it has the key.")
    form = {
        "grant_type": "authorization_code",
        "code": _WRONG_CODE,
        "redirect_uri": connection.assistant.redirect_uris[0],
        "client_id": client.client_id,
        "code_verifier": token_urlsafe(32),
        **({"resource": connection.resource} if connection.resource else {}),
    }
    answer = connection.ask("POST", str(connection.metadata["token_endpoint"]), form, _origin(connection))
    if answer.members.get("error") == "invalid_grant":
        return Verdict(True, "The client is authenticated; a wrong code gets invalid_grant.")
    return Verdict(False, f"A wrong code gets {_problem(answer)}, not invalid_grant.", _fix(connection, answer))


def _cors(connection: Connection) -> Verdict:
    """Check that a page may read the metadata and send the requests."""
    origin, problems = connection.assistant.origin, []
    for name in ("registration_endpoint", "token_endpoint"):
        address = connection.metadata.get(name)
        if isinstance(address, str):
            preflight = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            }
            answer = connection.ask("OPTIONS", address, headers=preflight)
            if not _allows(answer, origin) or answer.status >= 300:
                problems.append(f"the preflight request to {name} is not allowed (status {answer.status})")
    if not _allows(connection.ask("GET", connection.metadata_url, headers=_origin(connection)), origin):
        problems.append("the metadata cannot be read")
    fix = f"Check that no proxy removes the CORS headers. The page's origin is {origin}."
    return judge(problems, f"A page of {origin} may send the requests.", fix)


def _allows(answer: Answer, origin: str) -> bool:
    return answer.header("Access-Control-Allow-Origin") in ("*", origin)


def _delete(connection: Connection, client: _Registered, address: str, token: str) -> Verdict:
    """Delete the registration again (RFC 7592 section 2.3)."""
    if urlsplit(address)[:2] != urlsplit(str(connection.metadata["registration_endpoint"]))[:2]:
        problem = "registration_client_uri is on another server, so the token was not sent there"
    else:
        answer = connection.ask("DELETE", address, headers={"Authorization": f"Bearer {token}"})
        problem = "" if answer.status == 204 else f"The registration was not deleted (status {answer.status})"
    fix = f"`signet client delete {client.client_id}`"
    return judge([problem] if problem else [], "The registration of this check was deleted.", fix)


def _origin(connection: Connection) -> dict[str, str]:
    return {"Origin": connection.assistant.origin} if connection.assistant.origin else {}


def _problem(answer: Answer) -> str:
    """Return the error of a response: its code and description, or the heading of its page."""
    error, description = (str(answer.members.get(name) or "") for name in ("error", "error_description"))
    heading = _HEADING.search(answer.body.decode(errors="replace"))
    page = html.unescape(re.sub(r"\s*<[^>]*>\s*", "", heading[1]).strip()) if heading else ""
    text = ": ".join(part.rstrip(".") for part in (error, description) if part) or page
    return f"status {answer.status}" + (f" ({text})" if text else "")


def _fix(connection: Connection, answer: Answer, client: _Registered | None = None) -> str:
    error = str(answer.members.get("error") or "")
    if client and client.from_document and not error:
        return _DOCUMENT_FIX.format(host=urlsplit(client.client_id).hostname, document=client.client_id)
    return _FIXES.get(error, "Look in the server's log at that time.").format(resource=connection.resource)
