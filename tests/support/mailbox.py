"""The mails that moto's SES has received, read as a mail client reads them."""

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_string, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any

import boto3
import pytest
from moto.ses.models import ses_backends

from chalicelib.mail import delivery
from tests.support.site import Site

SENDER = "login@example.com"
_CODE = re.compile(r"(?m)^[2-9A-HJKMNP-TV-Z]{4}-[2-9A-HJKMNP-TV-Z]{4}$")
_HANDLE = re.compile(r"\bem_[\w-]+")
_LINK = re.compile(r"(?m)^https?://\S+$")


class _Text(HTMLParser):
    """Collects the text and the addresses of links of an HTML part."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.links = "", list[str]()
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("href", "src")]


@dataclass(frozen=True)
class ReceivedMail:
    """A mail as its reader sees it."""

    message: EmailMessage
    destinations: list[str]

    @property
    def to(self) -> str:
        return str(self.message["To"])

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        assert part
        return str(part.get_content()).replace("\r\n", "\n")

    @property
    def html(self) -> str:
        part = self.message.get_body(("html",))
        assert part
        return str(part.get_content()).replace("\r\n", "\n")

    @property
    def html_text(self) -> str:
        return _Text(self.html).text

    @property
    def html_links(self) -> list[str]:
        return _Text(self.html).links

    @property
    def code(self) -> str:
        """The code, without its hyphen."""
        match = _CODE.search(self.text)
        assert match, self.text
        return match[0].replace("-", "")

    @property
    def link(self) -> str:
        match = _LINK.search(self.text)
        assert match, self.text
        return match[0]


class Mailbox:
    """All mails that moto's SES has received."""

    @property
    def _backend(self) -> Any:
        return next(iter(ses_backends.values()))["us-east-1"]

    @property
    def messages(self) -> list[ReceivedMail]:
        """The mails, in the order in which they were sent."""
        received = []
        for sent in self._backend.sent_messages:
            message = message_from_string(sent.raw_data, policy=policy.default)
            assert isinstance(message, EmailMessage)
            received.append(ReceivedMail(message, sent.destinations))
        return received

    @property
    def newest(self) -> ReceivedMail:
        return self.messages[-1]

    def to(self, address: str) -> list[ReceivedMail]:
        return [mail for mail in self.messages if mail.to == address]

    def clear(self) -> None:
        self._backend.sent_messages.clear()

    def deliver(self, site: Site) -> list[ReceivedMail]:
        """Run the schedule, and return the mails that it has sent."""
        before = len(self.messages)
        site.run("deliver")
        sent = self.messages[before:]
        for mail in sent:  # a copy of the tables must not contain them, and neither the log
            site.secrets.update(filter(None, [*_CODE.findall(mail.text), *_HANDLE.findall(mail.text)]))
        return sent


@functools.cache
def _ses() -> Any:
    """Return one client for all tests; creating one takes some milliseconds."""
    return boto3.client("sesv2", region_name="us-east-1")


@pytest.fixture
def mailbox(_moto: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """The mails to come. The sender's domain is verified. A run sends all of them, however slow this machine is."""
    monkeypatch.setattr(delivery, "START_WITHIN", 60.0)
    box = Mailbox()
    _ses().create_email_identity(EmailIdentity="example.com")
    box.clear()
    yield box
    _ses().delete_email_identity(EmailIdentity="example.com")
    box.clear()


@pytest.fixture
def mail_site(site_with: Callable[..., Site], mailbox: Mailbox) -> Site:
    """A server that can send mails."""
    return site_with(email_from=SENDER)
