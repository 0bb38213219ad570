"""The message of a mail: text and HTML of one template, without content from other hosts.

The first line of a template is the subject. Its paragraphs are those of both parts; a paragraph that is the code or the
link alone is shown as such.
"""

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import unquote

from chalicelib import pages
from chalicelib.mail import proof_codes
from chalicelib.protocol.email_addresses import sendable
from chalicelib.protocol.languages import LANGUAGES, match
from chalicelib.protocol.outgoing_mail import OutgoingMail
from chalicelib.protocol.texts import UNPRINTABLE
from chalicelib.server import AuthorizationServer

ACCOUNT = "/account"
LINKS = {"password_reset_done": "/account/passkeys"}  # where other pages than ACCOUNT are needed
_MAX_VALUE = 300  # characters


def compose(server: AuthorizationServer, mail: OutgoingMail) -> bytes:
    """Return a mail as a message (RFC 5322). The same mail has the same code, date and Message-ID each time.

    Raises ValueError when a header field is impossible, TemporarilyUnavailable.
    """
    settings = server.settings
    sender = settings.email_from or ""
    values = {name: _on_one_line(value) for name, value in mail.values.items()}
    values["link"] = server.issuer + LINKS.get(mail.template, ACCOUNT)
    if mail.proof_id is not None:
        purpose = mail.proof_id.partition(".")[0]
        values["link"] = proof_codes.link(server, mail.proof_id)
        values["code"] = proof_codes.readable(proof_codes.code_of(server, mail.proof_id, purpose))
    language = match(mail.locale) or LANGUAGES[settings.language]
    subject, paragraphs = _split(pages.mail_text(mail.template, settings, language, **values))
    kinds = {values["link"]: "link", values.get("code", ""): "code"}
    parts = [(kinds.get(paragraph, "text"), paragraph) for paragraph in paragraphs]

    message = EmailMessage(policy=SMTP)
    message["From"] = Address(settings.name, addr_spec=sender)
    message["To"] = Address(addr_spec=mail.to)
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.fromtimestamp(mail.created_at, UTC))
    message["Message-ID"] = f"<{mail.delivery_id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no machine answers it
    if reply_to := _support_address(settings.support_url or ""):
        message["Reply-To"] = Address(addr_spec=reply_to)
    message.set_content("\n\n".join(paragraphs) + "\n", cte="quoted-printable")
    html = pages.mail_html(settings, language, subject=subject, parts=parts)
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    message["Content-Language"] = language.code  # after the content, with which such fields are removed
    return message.as_bytes()


def _support_address(url: str) -> str | None:
    """Return the address of a mailto URL (RFC 6068), or None."""
    scheme, _, address = url.partition(":")
    try:
        return sendable(unquote(address)) if scheme == "mailto" else None
    except ValueError:
        return None


def _on_one_line(value: str) -> str:
    """Return a value in which nothing can look like another paragraph, and that cannot turn the text around."""
    return " ".join(UNPRINTABLE.sub(" ", value).split())[:_MAX_VALUE]


def _split(text: str) -> tuple[str, list[str]]:
    subject, _, body = text.strip().partition("\n")
    return subject.strip(), [paragraph.strip() for paragraph in body.split("\n\n") if paragraph.strip()]
