"""/mailbox: the mails of the local server, which keeps them instead of sending them. In AWS there is no such page.

The mails have codes and links, so the page is only for a browser that names this machine, or the issuer, as the host:
the page of another site whose name leads here (DNS rebinding) cannot read it.
"""

import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

from chalicelib import pages
from chalicelib.http.messages import NO_STORE, Request, Response
from chalicelib.protocol.errors import NotFound
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.settings import LOOPBACK_NAMES

SHOWN = 50
_NAME = re.compile(r"[0-9]{1,20}-[0-9a-f]{8}")


@dataclass(frozen=True)
class KeptMail:
    """A mail as its reader sees it. `name`: of its file."""

    name: str
    to: str
    subject: str
    date: str
    paragraphs: list[str]


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the newest mails, with their texts. Raises NotFound except on the local server."""
    files = sorted(_folder(server, http).glob("*.eml"), reverse=True)[:SHOWN]
    mails = [mail for file in files if (mail := _read(file))]
    return pages.response(pages.page("mailbox", server.settings, None, mails=mails, issuer=server.issuer, shown=SHOWN))


def raw(server: AuthorizationServer, http: Request) -> Response:
    """Return one mail as it would be sent. Raises NotFound when there is none with this name."""
    folder, name = _folder(server, http), http.query.raw("mail") or ""
    file = folder / f"{name}.eml"
    if not _NAME.fullmatch(name) or not file.is_file():
        raise NotFound("There is no such mail. The mailbox keeps the newest ones.")
    text = file.read_bytes().decode("ascii", "replace")
    return Response(body=text).add({"Content-Type": "text/plain; charset=utf-8", **NO_STORE})


def _folder(server: AuthorizationServer, http: Request) -> Path:
    own = LOOPBACK_NAMES | {urlsplit(server.issuer).hostname}
    if server.settings.mailbox is None or _host(http) not in own:
        raise NotFound("There is nothing at this address.")
    return Path(server.settings.mailbox)


def _host(http: Request) -> str:
    """Return the host that a browser names, "" if that is none."""
    try:
        return (urlsplit(f"//{http.header('host') or ''}").hostname or "").removeprefix("[")
    except ValueError:
        return ""


def _read(file: Path) -> KeptMail | None:
    """Return the mail in a file, or None when it was deleted in between."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)  # noqa: S101  the policy's own class
    body = message.get_body(("plain",))
    text = str(body.get_content()).replace("\r\n", "\n") if body else ""
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]
    return KeptMail(file.stem, str(message["To"]), str(message["Subject"]), str(message["Date"]), paragraphs)
