"""The registered OAuth error codes, one class each.

An error is raised where it is noticed and rendered in one of two places: `web` (JSON for a client, a page for
a person) or `authorization` (a redirect, once the recipient is known). `description` is meant for the client's
developer and is sent; `detail` goes to the log only. Neither ever holds a value that opens anything.
"""

import re
import traceback
from typing import ClassVar

# RFC 6749 section 5.2: error_description is limited to these characters.
_NOT_ALLOWED = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


class OAuthError(Exception):
    """An error that a specification names.

    `description`: one sentence for the developer of the client. `detail`: for the log of the operator only.
    `headers`: header fields that the answer has to carry.
    `code`: what `error_codes` explains it by; finer than `error`, which it is where nothing else is said.
    """

    error: ClassVar[str] = "server_error"
    status: ClassVar[int] = 400
    code: str = ""

    def __init__(
        self,
        description: str = "",
        *,
        detail: str = "",
        headers: dict[str, str] | None = None,
        code: str | None = None,
    ):
        super().__init__(f"{self.error}: {description}")
        self.code = code or self.code or self.error
        self.description = _NOT_ALLOWED.sub("'", description)
        self.detail = detail
        self.headers = headers or {}

    def parameters(self) -> dict[str, str]:
        """The members of an error response: RFC 6749 sections 4.1.2.1 and 5.2."""
        if self.description:
            return {"error": self.error, "error_description": self.description}
        return {"error": self.error}


class InvalidRequest(OAuthError):
    """RFC 6749 section 5.2: a parameter is missing, repeated or malformed."""

    error = "invalid_request"


class RequestEnded(InvalidRequest):
    """An authorization request that cannot go on: expired, answered, or another browser's or person's.

    Shown to the person and never redirected: the recipient may have had its answer already.
    """

    code = "request_ended"


class InvalidClient(OAuthError):
    """RFC 6749 section 5.2: client authentication failed."""

    error = "invalid_client"
    status = 401


class InvalidGrant(OAuthError):
    """RFC 6749 section 5.2: the code or refresh token is invalid, expired, revoked or another client's."""

    error = "invalid_grant"


class UnauthorizedClient(OAuthError):
    """RFC 6749 sections 4.1.2.1 and 5.2: the client is not registered for what it asks."""

    error = "unauthorized_client"


class UnsupportedGrantType(OAuthError):
    """RFC 6749 section 5.2."""

    error = "unsupported_grant_type"


class UnsupportedResponseType(OAuthError):
    """RFC 6749 section 4.1.2.1."""

    error = "unsupported_response_type"


class InvalidScope(OAuthError):
    """RFC 6749 sections 4.1.2.1 and 5.2: the scope is malformed or exceeds what may be asked."""

    error = "invalid_scope"


class AccessDenied(OAuthError):
    """RFC 6749 section 4.1.2.1: the resource owner said no."""

    error = "access_denied"


class LoginRequired(OAuthError):
    """OpenID Connect Core section 3.1.2.6: `prompt=none`, and nobody is signed in."""

    error = "login_required"


class ConsentRequired(OAuthError):
    """OpenID Connect Core section 3.1.2.6: `prompt=none`, and the person has not yet agreed."""

    error = "consent_required"


class InteractionRequired(OAuthError):
    """OpenID Connect Core section 3.1.2.6: `prompt=none`, and the person has something else to do first."""

    error = "interaction_required"


class RequestNotSupported(OAuthError):
    """OpenID Connect Core section 3.1.2.6."""

    error = "request_not_supported"


class RequestUriNotSupported(OAuthError):
    """OpenID Connect Core section 3.1.2.6."""

    error = "request_uri_not_supported"


class RegistrationNotSupported(OAuthError):
    """OpenID Connect Core section 3.1.2.6."""

    error = "registration_not_supported"


class UnmetAuthenticationRequirements(OAuthError):
    """OpenID Connect Core Error Code unmet_authentication_requirements section 1: nobody can sign in as is asked."""

    error = "unmet_authentication_requirements"


class InvalidTarget(OAuthError):
    """RFC 8707 section 2: a `resource` is malformed, or unknown here."""

    error = "invalid_target"


class InvalidToken(OAuthError):
    """RFC 6750 section 3.1: the access token is malformed, expired, revoked or for somebody else."""

    error = "invalid_token"
    status = 401


class UnknownKey(InvalidToken):
    """A token that bears the name of no key of ours: somebody else's, or our own of long ago."""


class InsufficientScope(OAuthError):
    """RFC 6750 section 3.1: the access token does not reach so far."""

    error = "insufficient_scope"
    status = 403


class InvalidRedirectUri(OAuthError):
    """RFC 7591 section 3.2.2: a redirection URI that cannot be registered."""

    error = "invalid_redirect_uri"


class InvalidClientMetadata(OAuthError):
    """RFC 7591 section 3.2.2: a member of a client's registration is not acceptable."""

    error = "invalid_client_metadata"


class ServerError(OAuthError):
    """RFC 6749 section 4.1.2.1: our own fault."""

    error = "server_error"
    status = 500

    def __init__(self, description: str = "The server has made a mistake.", *, detail: str = ""):
        super().__init__(description, detail=detail)


def unexpected(error: Exception) -> ServerError:
    """What an exception that nobody foresaw becomes. Its message may hold anything: type and place are kept."""
    place = "; ".join(f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-5:])
    return ServerError(detail=f"{type(error).__name__} at {place}")


class TemporarilyUnavailable(OAuthError):
    """RFC 6749 section 4.1.2.1: the storage is throttled or out of reach; the same request may go through later."""

    error = "temporarily_unavailable"
    status = 503

    def __init__(self, description: str = "Please try again in a few seconds.", *, detail: str = ""):
        super().__init__(description, detail=detail, headers={"Retry-After": "2"})


class NotFound(OAuthError):
    """No such address here (HTTP 404; not an OAuth code)."""

    error = "not_found"
    status = 404


class MethodNotAllowed(OAuthError):
    """The address exists, but not for this method (HTTP 405; not an OAuth code)."""

    error = "method_not_allowed"
    status = 405
