"""The registered OAuth error codes, one class each.

An error is raised where it is detected. It is sent as JSON or as a page (`web`), or, when the recipient of an
authorization response has been determined, as a redirect. `description` is sent, for the client's developer; `detail`
is only logged. Neither may contain a token, code, secret or password.
"""

import re
import traceback
from typing import ClassVar

from chalicelib.protocol.texts import Text

_CHALLENGE = 'Basic realm="client", charset="UTF-8"'
# RFC 6749 section 5.2: error_description is limited to these characters.
_NOT_ALLOWED = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


class OAuthError(Exception):
    """An error that a specification defines.

    `description`: one sentence for the developer of the client. `detail`: for the operator's log only.
    `headers`: header fields that the response must have.
    `code`: the key of its entry in `pages.explanations`, more specific than `error`, which is its default.
    `retry`: the address of this server at which the user can try again; its page has a link to it.
    """

    error: ClassVar[str] = "server_error"
    status: int = 400
    code: str = ""

    def __init__(
        self,
        description: str = "",
        *,
        detail: str = "",
        headers: dict[str, str] | None = None,
        code: str | None = None,
        retry: str = "",
    ):
        super().__init__(f"{self.error}: {description}")
        self.code = code or self.code or self.error
        self.description = _NOT_ALLOWED.sub("'", description)
        self.detail = detail
        self.headers = headers or {}
        self.retry = retry

    def parameters(self) -> dict[str, str]:
        """Return the members of an error response (RFC 6749 sections 4.1.2.1 and 5.2)."""
        if self.description:
            return {"error": self.error, "error_description": self.description}
        return {"error": self.error}


class InvalidRequest(OAuthError):
    """RFC 6749 section 5.2: a parameter is missing, repeated or malformed."""

    error = "invalid_request"


class RequestEnded(InvalidRequest):
    """An authorization request that is expired, answered, or bound to another browser or user.

    Shown as a page and never redirected: the client may have its response already.
    """

    code = "request_ended"


class InvalidClient(OAuthError):
    """RFC 6749 section 5.2: client authentication failed. The response names one way, HTTP Basic (RFC 9110 11.6.1)."""

    error = "invalid_client"
    status = 401

    def __init__(self, description: str = "", *, detail: str = ""):
        super().__init__(description, detail=detail, headers={"WWW-Authenticate": _CHALLENGE})


class InvalidGrant(OAuthError):
    """RFC 6749 section 5.2: the code or refresh token is invalid, expired, revoked, or another client's."""

    error = "invalid_grant"


class UnauthorizedClient(OAuthError):
    """RFC 6749 sections 4.1.2.1 and 5.2: the client is not registered for this type of request."""

    error = "unauthorized_client"


class UnsupportedGrantType(OAuthError):
    """RFC 6749 section 5.2: the server does not support the grant type."""

    error = "unsupported_grant_type"


class UnsupportedResponseType(OAuthError):
    """RFC 6749 section 4.1.2.1: the server does not support the response type."""

    error = "unsupported_response_type"


class InvalidScope(OAuthError):
    """RFC 6749 sections 4.1.2.1 and 5.2: the scope is malformed or exceeds what is allowed."""

    error = "invalid_scope"


class AccessDenied(OAuthError):
    """RFC 6749 section 4.1.2.1: the user denied the request."""

    error = "access_denied"


class LoginRequired(OAuthError):
    """OpenID Connect Core section 3.1.2.6: `prompt=none`, and the user is not signed in."""

    error = "login_required"


class ConsentRequired(OAuthError):
    """OpenID Connect Core section 3.1.2.6: `prompt=none`, and the user has not consented."""

    error = "consent_required"


class InteractionRequired(OAuthError):
    """OpenID Connect Core section 3.1.2.6: `prompt=none`, and the user must do something else first."""

    error = "interaction_required"


class InvalidRequestObject(OAuthError):
    """RFC 9101 section 7: the request object is malformed, expired, or not signed by its client for this server."""

    error = "invalid_request_object"


class RequestNotSupported(OAuthError):
    """OpenID Connect Core section 3.1.2.6: this kind of request object, one that is not signed, is not supported."""

    error = "request_not_supported"


class RequestUriNotSupported(OAuthError):
    """OpenID Connect Core section 3.1.2.6: the `request_uri` parameter is not supported."""

    error = "request_uri_not_supported"


class RegistrationNotSupported(OAuthError):
    """OpenID Connect Core section 3.1.2.6: the `registration` parameter is not supported."""

    error = "registration_not_supported"


class UnmetAuthenticationRequirements(OAuthError):
    """OpenID Connect Core Error Code unmet_authentication_requirements section 1: no sign-in has the required `acr`."""

    error = "unmet_authentication_requirements"


class InvalidTarget(OAuthError):
    """RFC 8707 section 2: a `resource` is malformed, unknown, or not granted."""

    error = "invalid_target"


class InvalidAuthorizationDetails(OAuthError):
    """RFC 9396 section 5: the `authorization_details` are malformed, unknown, not for this client, or not granted."""

    error = "invalid_authorization_details"


class InvalidToken(OAuthError):
    """RFC 6750 section 3.1: the access token is malformed, expired, revoked, or for another audience."""

    error = "invalid_token"
    status = 401


class InvalidDpopProof(OAuthError):
    """RFC 9449 section 5: the DPoP proof is missing, malformed, repeated, or of another request; 401 at a resource."""

    error = "invalid_dpop_proof"


class UseDpopNonce(OAuthError):
    """RFC 9449 sections 8 and 9: the DPoP proof must have a nonce, which the response has; 401 at a resource."""

    error = "use_dpop_nonce"


class UnknownKey(InvalidToken):
    """The `kid` of the token is not in the key ring: another issuer's token, or one older than a key rotation."""


class InsufficientScope(OAuthError):
    """RFC 6750 section 3.1: the scope of the access token does not allow the request."""

    error = "insufficient_scope"
    status = 403


class InvalidRedirectUri(OAuthError):
    """RFC 7591 section 3.2.2: a redirect URI cannot be registered."""

    error = "invalid_redirect_uri"


class InvalidClientMetadata(OAuthError):
    """RFC 7591 section 3.2.2: a member of the client metadata is invalid."""

    error = "invalid_client_metadata"


class ServerError(OAuthError):
    """RFC 6749 section 4.1.2.1: a fault of this server."""

    error = "server_error"
    status = 500

    def __init__(self, description: str = "The server encountered an unexpected condition.", *, detail: str = ""):
        super().__init__(description, detail=detail)


def unexpected_error(error: Exception) -> ServerError:
    """Return the ServerError for an unexpected exception: its type and place, as its message may contain secrets.

    Its `reference`, if it has one, is for the log too: for an error of AWS, the operation and the id of the request.
    """
    place = "; ".join(f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-5:])
    reference = getattr(error, "reference", "")
    return ServerError(detail=f"{type(error).__name__} at {place}{f' ({reference})' if reference else ''}")


class TemporarilyUnavailable(OAuthError):
    """RFC 6749 section 4.1.2.1: storage or KMS is throttled or unreachable; a retry may succeed."""

    error = "temporarily_unavailable"
    status = 503

    def __init__(self, description: str = "Please try again in a few seconds.", *, detail: str = ""):
        super().__init__(description, detail=detail, headers={"Retry-After": "2"})


class ClientUnavailable(TemporarilyUnavailable):
    """The document or the keys of a client cannot be fetched (HTTP 503): a fault of its website, not of this server."""


class TooManyRegistrations(TemporarilyUnavailable):
    """Too many clients have registered themselves (HTTP 429, RFC 6585 section 4)."""

    status = 429

    def __init__(self, within: str = "an hour", retry_after: int = 3600):
        super().__init__(f"Too many applications were registered from your network. Please try again in {within}.")
        self.headers = {"Retry-After": str(retry_after)}


class TooManyEmails(TemporarilyUnavailable):
    """Too many emails were asked for from one network (HTTP 429, RFC 6585 section 4). `retry_after`: in seconds."""

    status = 429

    def __init__(self, retry_after: int):
        super().__init__(Text("Too many emails were asked for from your network. Please try again in an hour."))
        self.retry_after = retry_after
        self.headers = {"Retry-After": str(retry_after)}


class NotFound(OAuthError):
    """No endpoint has this address (HTTP 404; not an OAuth code)."""

    error = "not_found"
    status = 404


class MethodNotAllowed(OAuthError):
    """The endpoint does not support this method (HTTP 405; not an OAuth code)."""

    error = "method_not_allowed"
    status = 405


class Forbidden(OAuthError):
    """The request did not come through the declared proxy (HTTP 403; not an OAuth code)."""

    error = "forbidden"
    status = 403
