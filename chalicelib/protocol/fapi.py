"""FAPI 2.0 of the OpenID Foundation: what `Client.profile` demands of a client and of its requests, clause by clause.

The Security Profile and Message Signing, both Final, of 2025. A client with a profile is consistent by construction:
`derived_members` sets what follows from the profile, and `check_profile` refuses a record that contradicts it.
"""

from collections.abc import Callable, Collection
from shlex import quote
from typing import Any

from chalicelib.protocol import mutual_tls
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.values import dataclass

SECURITY, MESSAGE_SIGNING = "fapi2", "fapi2-message-signing"
PROFILES = (SECURITY, MESSAGE_SIGNING)
ALGORITHMS = ("PS256", "ES256", "EdDSA")
CODE_LIFETIME = MINUTE
_DEFAULT_ALGORITHM = "ES256"  # which signs fastest, and which KMS has too
_AUTH_METHODS = ("private_key_jwt", *mutual_tls.METHODS)
# The members that bind access tokens to a key, or to a certificate.
_BOUND_BY_KEY, _BOUND_BY_CERTIFICATE = "dpop_bound_access_tokens", "tls_client_certificate_bound_access_tokens"
_LOOPBACK = ("http://127.0.0.1", "http://[::1]")
_SIGNED = tuple(
    f"{kind}_signed_response_alg" for kind in ("id_token", "access_token", "userinfo", "authorization", "introspection")
)
_TITLES = {SECURITY: "FAPI 2.0 Security Profile", MESSAGE_SIGNING: "FAPI 2.0 Message Signing"}


@dataclass(frozen=True)
class Requirement:
    """A clause about clients. `find_problem` returns how a client deviates from it, "" if it does not.

    `fix`: the options of `client update` that end the deviation, for a client or for all of them.
    """

    document: str
    clause: str
    find_problem: Callable[[Client], str]
    fix: str | Callable[[Client], str]

    @property
    def name(self) -> str:
        """The clause with its document."""
        return f"{_TITLES[self.document]} {self.clause}"

    def fix_for(self, client: Client) -> str:
        """Return the options of `client update` that end the deviation of a client."""
        return self.fix if isinstance(self.fix, str) else self.fix(client)


@dataclass(frozen=True)
class Deviation:
    """How a client deviates from a profile: `clause` with the name of its document, `fix` as of Requirement."""

    problem: str
    clause: str
    fix: str


def find_deviations(client: Client, profile: str) -> list[Deviation]:
    """Return how the record of a client deviates from a profile, whether the client has it or not."""
    documents = PROFILES if profile == MESSAGE_SIGNING else (SECURITY,)
    problems = ((rule, rule.find_problem(client)) for rule in _REQUIREMENTS if rule.document in documents)
    return [Deviation(problem, rule.name, rule.fix_for(client)) for rule, problem in problems if problem]


def check_profile(client: Client) -> None:
    """Check that the record of a client does not contradict its profile. Raises InvalidClientMetadata."""
    if client.profile is None:
        return
    if client.profile not in PROFILES:
        raise InvalidClientMetadata("The profile must be one of: " + ", ".join(PROFILES))
    for deviation in find_deviations(client, client.profile):
        raise InvalidClientMetadata(f"{explain(deviation, client.profile)}: {deviation.fix}.")


def explain(deviation: Deviation, profile: str) -> str:
    """Return what a deviation is, with the clause."""
    return f"{deviation.problem}, which {profile} does not allow ({deviation.clause})"


def derived_members(client: Client, given: Collection[str]) -> dict[str, Any]:
    """Return the members that follow from the profile of a client, without those that were `given` with it."""
    methods = tuple(method for method in client.auth_methods if method in _AUTH_METHODS) or ("private_key_jwt",)
    members: dict[str, Any] = {
        "token_endpoint_auth_methods": methods,
        "response_types": ("code",) if client.response_types else (),
        "require_pkce": True,
        "require_pushed_authorization_requests": True,
        "assertion_audience": "issuer",
        "direct_sign_in": False,
    }
    if not is_bound(client):
        by_certificate = set(methods) <= set(mutual_tls.METHODS)
        members[_BOUND_BY_CERTIFICATE if by_certificate else _BOUND_BY_KEY] = True
    if (client.authorization_code_lifetime or 0) > CODE_LIFETIME:
        members["authorization_code_lifetime"] = None
    members |= dict.fromkeys(_signed_otherwise(client), _DEFAULT_ALGORITHM)
    if client.profile == MESSAGE_SIGNING:
        members["require_signed_request_object"] = True
    return {name: value for name, value in members.items() if name not in given}


def is_bound(client: Client) -> bool:
    """Return whether a client gets no bearer tokens: its access tokens are bound to a key or to a certificate."""
    return any(getattr(client, name) for name in (_BOUND_BY_KEY, _BOUND_BY_CERTIFICATE))


# ---- requests of a client with a profile


def allows_algorithm(client: Client, alg: str) -> bool:
    """Return whether a JWT from or for a client may be signed with this algorithm (Security Profile section 5.4.1)."""
    return client.profile is None or alg in ALGORITHMS


def code_lifetime(client: Client, seconds: int) -> int:
    """Return the lifetime of the codes of a client (section 5.3.2.1, clause 11)."""
    return seconds if client.profile is None else min(seconds, CODE_LIFETIME)


def requires_signed_response(client: Client) -> bool:
    """Return whether a client gets signed authorization responses only (Message Signing section 5.4.1)."""
    return client.profile == MESSAGE_SIGNING


# ---- the clauses


def _signed_otherwise(client: Client) -> list[str]:
    """Return the members of algorithms that are not allowed. UserInfo is not signed without one, all else by RS256."""
    algorithms = {name: getattr(client, name) for name in _SIGNED}
    return [
        name
        for name, alg in algorithms.items()
        if alg not in ALGORITHMS and not (alg is None and name == "userinfo_signed_response_alg")
    ]


def _public(client: Client) -> str:
    return "It is a public client" if client.public or "none" in client.auth_methods else ""


def _bearer_tokens(client: Client) -> str:
    return "" if is_bound(client) else "It gets bearer tokens"


def _other_methods(client: Client) -> str:
    other = [method for method in client.auth_methods if method not in (*_AUTH_METHODS, "none")]
    return f"It may authenticate by {', '.join(other)}" if other else ""


def _with_allowed_methods(client: Client) -> str:
    """Return the options that keep the methods which are allowed; without any, those for a key."""
    kept = [method for method in client.auth_methods if method in _AUTH_METHODS]
    if kept:
        return " ".join(f"--auth-method {method}" for method in kept)
    has_keys = client.jwks is not None or client.jwks_uri is not None
    return "--auth-method private_key_jwt" + ("" if has_keys else " --jwks FILE")


def _other_audience(client: Client) -> str:
    accepted = client.assertion_audience != "issuer"
    return "Its assertions may have another audience than the issuer" if accepted else ""


def _long_lived_code(client: Client) -> str:
    seconds = client.authorization_code_lifetime or 0
    return f"Its authorization codes are valid for {seconds} seconds" if seconds > CODE_LIFETIME else ""


def _other_response_types(client: Client) -> str:
    other = [name for name in client.response_types if name.split() != ["code"]]
    return f"It may request the response type {other[0]}" if other else ""


def _not_pushed(client: Client) -> str:
    if client.direct_sign_in:
        return "It may sign users in by HTTP Basic, without a pushed request"
    return "" if client.require_pushed_authorization_requests else "It may send authorization requests by the browser"


def _without_pkce(client: Client) -> str:
    return "" if client.require_pkce else "It may omit PKCE"


def _unencrypted(client: Client) -> str:
    uris = _unencrypted_uris(client)
    return f"Its responses are sent unencrypted to {', '.join(uris)}" if uris else ""


def _with_encryption(client: Client) -> str:
    uris = _unencrypted_uris(client)
    other = "" if len(client.redirect_uris) > len(uris) else "--add-redirect-uri HTTPS_URI "
    return other + " ".join(f"--remove-redirect-uri {quote(uri)}" for uri in uris)


def _unencrypted_uris(client: Client) -> list[str]:
    uris = [uri for uri in client.redirect_uris if uri.startswith("http://")]
    return [uri for uri in uris if not any(_follows(uri, start) for start in _LOOPBACK)]


def _follows(uri: str, start: str) -> bool:
    return uri.startswith(start) and uri[len(start) :][:1] in ("", ":", "/", "?")


def _other_algorithms(client: Client) -> str:
    algorithms = {name: getattr(client, name) or "the default, RS256" for name in _signed_otherwise(client)}
    text = ", ".join(f"its {name} is {alg}" for name, alg in algorithms.items())
    return text[:1].upper() + text[1:]


def _with_algorithms(client: Client) -> str:
    return " ".join(f"--{name.replace('_', '-')} {_DEFAULT_ALGORITHM}" for name in _signed_otherwise(client))


def _other_request_algorithm(client: Client) -> str:
    alg = client.request_object_signing_alg
    return f"Its request_object_signing_alg is {alg}" if alg is not None and alg not in ALGORITHMS else ""


def _other_keys(client: Client) -> str:
    keys = client.jwks["keys"] if client.jwks else ()
    if keys and all(key.get("alg") == "RS256" for key in keys):
        return "Its keys are for RS256 only"
    return ""


def _unsigned_requests(client: Client) -> str:
    return "" if client.require_signed_request_object else "It may send authorization requests that it has not signed"


_REQUIREMENTS = (
    Requirement(SECURITY, "5.3.2.1-3", _public, "--auth-method private_key_jwt --jwks FILE"),
    Requirement(SECURITY, "5.3.2.1-4", _bearer_tokens, "--dpop-bound-access-tokens"),
    Requirement(SECURITY, "5.3.2.1-6", _other_methods, _with_allowed_methods),
    Requirement(SECURITY, "5.3.2.1-8", _other_audience, "--assertion-audience issuer"),
    Requirement(SECURITY, "5.3.2.1-11", _long_lived_code, "--unset authorization-code-lifetime"),
    Requirement(SECURITY, "5.3.2.2-1", _other_response_types, "--response-type code"),
    Requirement(SECURITY, "5.3.2.2-3", _not_pushed, "--require-pushed-authorization-requests --no-direct-sign-in"),
    Requirement(SECURITY, "5.3.2.2-5", _without_pkce, "--pkce"),
    Requirement(SECURITY, "5.3.2.2-8", _unencrypted, _with_encryption),
    Requirement(SECURITY, "5.4.1-1", _other_algorithms, _with_algorithms),
    Requirement(SECURITY, "5.4.1-1", _other_request_algorithm, "--unset request-object-signing-alg"),
    Requirement(SECURITY, "5.4.1-1", _other_keys, "--jwks FILE"),
    Requirement(MESSAGE_SIGNING, "5.3.1-1", _unsigned_requests, "--require-signed-request-object"),
)
