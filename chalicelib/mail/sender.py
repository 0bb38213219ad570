"""Sending a message by Amazon SES (https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html)."""

import base64
import json
from typing import Any, Literal, NamedTuple

from chalicelib.aws.client import AwsError, Client
from chalicelib.aws.connections import Connections
from chalicelib.aws.credentials import Credentials
from chalicelib.aws.messages import NoAnswer, NotConfigured, NotSent
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.outgoing_mail import OutgoingMail
from chalicelib.server import AuthorizationServer

PATH = "/v2/email/outbound-emails"
SUB_TAG = "signet-sub"  # by which a bounce names its user
_MAX_TAG = 256
_READ = 5.0  # seconds
# Errors of the message. All others are of the account, and may end: a limit, a pause, an identity to be verified.
_OF_THE_MESSAGE = ("MessageRejected", "BadRequestException")
_LOCAL = Credentials("local", "local")


class Outcome(NamedTuple):
    """What came of an attempt. `later`: it was not sent and may be later; `unknown`: perhaps it was sent."""

    kind: Literal["sent", "later", "never", "unknown"]
    reason: str = ""


def send(server: AuthorizationServer, mail: OutgoingMail, message: bytes) -> Outcome:
    """Send a message once. A call whose answer is lost is not repeated here, because it may have been executed."""
    settings = server.settings
    parameters: dict[str, Any] = {
        "FromEmailAddress": settings.email_from,
        "Destination": {"ToAddresses": [mail.to]},
        "Content": {"Raw": {"Data": base64.b64encode(message).decode()}},
    }
    if settings.email_configuration_set:
        parameters["ConfigurationSetName"] = settings.email_configuration_set
    tag = base64url(mail.sub.encode())
    if tag and len(tag) <= _MAX_TAG:
        parameters["EmailTags"] = [{"Name": SUB_TAG, "Value": tag}]
    try:
        _client(server).post(PATH, "SendEmail", json.dumps(parameters).encode())
    except AwsError as error:
        # The message of an error has the address.
        return Outcome("never" if error.code in _OF_THE_MESSAGE else "later", error.code)
    except NotConfigured:
        return Outcome("later", "no credentials")
    except TemporarilyUnavailable as error:
        cause = error.__cause__
        unknown = isinstance(cause, NoAnswer) and not isinstance(cause, NotSent)
        return Outcome("unknown" if unknown else "later", getattr(cause, "code", type(cause).__name__))
    return Outcome("sent")


def _client(server: AuthorizationServer) -> Client:
    """Return the client of SES, created on first use: a process that sends no mail has none."""
    memory, settings = server.process_memory, server.settings
    if "mail client" not in memory:
        if settings.mailbox:  # the local server's, which must never receive real credentials
            send = Connections(_READ).send
            endpoint = settings.dynamodb_endpoint or ""
            memory["mail client"] = Client("ses", settings.region or "", endpoint, lambda _renew: _LOCAL, send)
        else:
            memory["mail client"] = server.store.account.client("ses", _READ)
    client: Client = memory["mail client"]
    return client
