"""The message of a mail: what its reader sees, and what no value can do to it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from chalicelib import pages
from chalicelib.aws.client import Client
from chalicelib.aws.messages import Request, Response
from chalicelib.keys import rotation
from chalicelib.mail import proof_codes
from chalicelib.mail.message import compose
from chalicelib.mail.outbox import Mail, sending
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.email_addresses import MAX_LENGTH
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.languages import LANGUAGES
from chalicelib.protocol.outgoing_mail import OutgoingMail
from chalicelib.storage.table import Refused
from tests.support.mailbox import SENDER, Mailbox, ReceivedMail
from tests.support.site import Site

PROOF = "reset.digest-of-43-characters.nonce"
TEMPLATES = sorted(path.stem for path in (Path(pages.__file__).parent / "mail").glob("*.txt"))
HOSTILE = (
    "Eve\r\nBcc: victim@example.com\r\n\r\n\u202etxet <script>alert(1)</script> https://evil.example\n\nClick here"
)


def record(now: int, **members: Any) -> OutgoingMail:
    mail = OutgoingMail("d-1", now, now + 60, "alice", "password_changed", "alice@example.com")
    return replace(mail, **({"values": {"username": "alice"}} | members))


def composed(site: Site, **members: Any) -> ReceivedMail:
    message = message_from_bytes(compose(site.server, record(site.clock(), **members)), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return ReceivedMail(message, [])


@pytest.fixture
def proof_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of a text with a code and a link."""
    folder = tmp_path / "mail"
    folder.mkdir()
    (folder / "layout.html").write_text((Path(pages.__file__).parent / "mail" / "layout.html").read_text())
    (folder / "proof.txt").write_text("Your code · {{ server }}\n\nHello {{ username }}\n\n{{ code }}\n\n{{ link }}\n")
    monkeypatch.setattr(pages, "_FOLDER", tmp_path)
    pages._environment.cache_clear()
    yield "proof"
    monkeypatch.undo()
    pages._environment.cache_clear()


# ---- what its reader sees


def test_mail_has_text_and_html_with_the_same_paragraphs(mail_site: Site) -> None:
    mail = composed(mail_site)
    assert mail.message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.message.iter_parts()] == ["text/plain", "text/html"]
    paragraphs = mail.text.split("\n\n")
    assert len(paragraphs) == 4
    assert all(paragraph.strip() in mail.html_text for paragraph in paragraphs)
    assert mail.link == f"{mail_site.settings.issuer}/account"


def test_headers_name_the_server_and_keep_machines_from_answering(site_with: Callable[..., Site]) -> None:
    site = site_with(email_from=SENDER, name="Zürich Login", support_url="mailto:help@example.com")
    message = composed(site).message
    assert str(message["From"]) == "Zürich Login <login@example.com>"
    assert str(message["Subject"]) == "Your password was changed · Zürich Login"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Reply-To"] == "help@example.com"
    assert message["Message-ID"] == "<d-1@example.com>"
    assert message["Date"].datetime.timestamp() == site.clock()
    assert "help@example.com" in composed(site).text


def test_reply_to_is_absent_without_an_address_of_support(site_with: Callable[..., Site]) -> None:
    site = site_with(email_from=SENDER, support_url="https://help.example.com/")
    assert composed(site).message["Reply-To"] is None
    assert "https://help.example.com/" in composed(site).text


@pytest.mark.parametrize(
    ("url", "address"),
    [("mailto:help%2Bmail@example.com", "help+mail@example.com"), ("mailto:he(lp@example.com", None)],
)
def test_address_of_support_that_no_mail_can_be_sent_to_is_left_out(
    site_with: Callable[..., Site], url: str, address: str | None
) -> None:
    assert composed(site_with(email_from=SENDER, support_url=url)).message["Reply-To"] == address


def test_same_mail_is_the_same_message_each_time_except_for_the_boundary(mail_site: Site) -> None:
    first, second = composed(mail_site), composed(mail_site)
    assert first.message.items() != []
    assert [value for name, value in first.message.items() if name != "Content-Type"] == [
        value for name, value in second.message.items() if name != "Content-Type"
    ]
    assert (first.text, first.html) == (second.text, second.html)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_text_is_complete_short_and_loads_nothing(mail_site: Site, template: str) -> None:
    values = dict.fromkeys(_variables(template), "value")
    mail = composed(mail_site, template=template, values=values, proof_id=PROOF)
    assert mail.subject.endswith(" · Signet")
    assert len(mail.subject) <= 78
    assert mail.text.isprintable() or "\n" in mail.text
    assert "{" not in mail.text
    assert mail_site.settings.issuer in mail.text
    assert len(mail.html.encode()) < 10_000
    assert {link for link in mail.html_links if not link.startswith(mail_site.settings.issuer)} == set()
    assert not [loads for loads in ("src=", "url(", "<script", "<link") if loads in mail.html]
    raw = compose(mail_site.server, record(1, template=template, values=values, proof_id=PROOF))
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))


def _variables(template: str) -> set[str]:
    from jinja2 import Environment, meta

    source = (Path(pages.__file__).parent / "mail" / f"{template}.txt").read_text("utf-8")
    environment = Environment(autoescape=True, extensions=["jinja2.ext.i18n"])
    names = meta.find_undeclared_variables(environment.parse(source))
    return names - {"server", "support", "link", "code", "direction", "gettext", "ngettext"}


def test_ip_address_keeps_its_order_in_a_text_from_right_to_left(mail_site: Site) -> None:
    values = {"username": "alice", "device": "Firefox", "source_ip": "2001:db8::1", "time": "13:00", "link": "x"}
    texts = [pages.mail_text("new_sign_in", mail_site.settings, LANGUAGES[code], **values) for code in ("ar", "de")]
    assert "\u20662001:db8::1\u2069" in texts[0]  # isolated: LRI and PDI of the Unicode bidirectional algorithm
    assert "\u2066" not in texts[1]
    assert "2001:db8::1" in texts[1]


# ---- codes and links


def test_code_and_link_are_in_both_parts_and_not_in_the_subject(mail_site: Site, proof_template: str) -> None:
    mail = composed(mail_site, template=proof_template, proof_id=PROOF)
    assert mail.code == proof_codes.code_of(mail_site.server, PROOF, "reset")
    assert mail.link == proof_codes.link(mail_site.server, PROOF)
    assert mail.html_links == [mail.link]
    assert proof_codes.readable(mail.code) in mail.html_text
    assert mail.code not in mail.subject.replace("-", "")


def test_code_and_link_differ_for_each_proof_and_purpose(site: Site) -> None:
    server, ids = site.server, [f"reset.{new_id()}" for _ in range(200)]
    codes = [proof_codes.code_of(server, proof, "reset") for proof in ids]
    assert len({*codes, *(proof_codes.link_handle(server, proof) for proof in ids)}) == 400
    assert proof_codes.code_of(server, ids[0], "sign_in") != codes[0]
    assert set("".join(codes)) == set(proof_codes.ALPHABET)
    assert {len(code) for code in codes} == {proof_codes.CODE_LENGTH}
    assert len(set(proof_codes.ALPHABET)) == 30


@pytest.mark.usefixtures("restore_key_ring")
def test_code_and_earlier_links_stay_valid_when_the_keys_are_rotated(site: Site) -> None:
    server = site.server
    code, link = proof_codes.code_of(server, PROOF, "reset"), proof_codes.link_handle(server, PROOF)
    rotation.rotate(server.keys, site.clock())
    site.clock.advance(DAY)
    server.keys.forget_cached_keys()
    assert proof_codes.code_of(server, PROOF, "reset") == code
    assert proof_codes.link_handle(server, PROOF) != link
    assert proof_codes.read_link(server, link) == proof_codes.read_link(server, proof_codes.link_handle(server, PROOF))


def test_link_is_read_without_the_database_and_not_when_it_was_changed(site: Site) -> None:
    handle = proof_codes.link_handle(site.server, PROOF)
    assert handle.startswith("em_")
    assert proof_codes.read_link(site.server, handle) == PROOF
    for text in (None, "", handle[:-1], handle + "A", "let_" + handle[3:], handle.swapcase()):
        assert proof_codes.read_link(site.server, text) is None
    assert proof_codes.read_link(site.server, site.server.keys.make_handle("let", PROOF)) is None


@pytest.mark.parametrize("typed", ["ABCD-2345", "abcd2345", " ab cd - 23 45\t", "A-B-C-D-2-3-4-5"])
def test_code_is_read_however_it_is_typed(typed: str) -> None:
    assert proof_codes.normalize(typed) == "ABCD2345"
    assert proof_codes.readable("ABCD2345") == "ABCD-2345"


# ---- what no value can do


def test_value_stays_on_its_line_and_is_escaped(mail_site: Site, proof_template: str) -> None:
    mail = composed(mail_site, template=proof_template, proof_id=PROOF, values={"username": HOSTILE})
    lines = mail.text.split("\n\n")
    assert len(lines) == 3
    assert lines[0].startswith("Hello Eve Bcc: victim@example.com")
    assert "\u202e" not in mail.text + mail.html
    assert "<script" not in mail.html
    assert mail.html_links == [mail.link], "an address in a value is no link"
    assert mail.message["Bcc"] is None
    assert mail.to == "alice@example.com"


def test_value_cannot_pass_for_the_code_or_the_link(mail_site: Site, proof_template: str) -> None:
    values = {"username": "x", "code": "2222-2222", "link": "https://evil.example/"}
    mail = composed(mail_site, template=proof_template, proof_id=PROOF, values=values)
    assert mail.link.startswith(mail_site.settings.issuer)
    assert mail.code == proof_codes.code_of(mail_site.server, PROOF, "reset")


def test_longest_address_and_name_arrive_unchanged(site_with: Callable[..., Site]) -> None:
    domain = ".".join(["b" * 63, "b" * 63, "b" * 57]) + ".com"
    address = f"{'a' * 64}@{domain}"
    assert len(address) == MAX_LENGTH
    site = site_with(email_from=address, name="Ü" * 200)
    message = composed(site, to=address).message
    assert message["To"].addresses[0].addr_spec == address
    (sender,) = message["From"].addresses
    # Python's parser keeps the spaces between encoded words, which RFC 2047 section 6.2 tells readers to ignore.
    assert (sender.display_name.replace(" ", ""), sender.addr_spec) == ("Ü" * 200, address)
    assert message["Subject"] == "Your password was changed · " + "Ü" * 200


def test_long_value_is_cut(mail_site: Site) -> None:
    assert len(composed(mail_site, values={"username": "x" * 10_000}).text) < 1500


@pytest.mark.parametrize(
    "address",
    ["alice@example.com\r\nBcc: eve@example.com", "alice@example.com, eve@example.com", "<alice@example.com>", "alice"],
)
def test_address_with_more_than_an_address_is_not_sent(mail_site: Site, mailbox: Mailbox, address: str) -> None:
    write = sending(mail_site.server, Mail("password_changed", address, None, {"username": "alice"}))
    assert not isinstance(mail_site.server.store.mails.write(write), Refused)
    assert mailbox.deliver(mail_site) == []
    assert list(mail_site.server.store.mails.scan()) == []


def test_message_reaches_ses_as_raw_content_with_the_configuration_set_and_the_user(
    site_with: Callable[..., Site], mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64
    import json

    site = site_with(email_from=SENDER, email_configuration_set="signet-test")
    requests: list[Request] = []
    send = Client.transport

    def transport(client: Client, request: Request) -> Response:
        if client.service == "ses":
            requests.append(request)
        return send(client, request)

    monkeypatch.setattr(Client, "transport", transport)
    write = sending(site.server, Mail("password_changed", "alice@xn--bcher-kva.example", "ali|ce", {"username": "a"}))
    site.server.store.mails.write(write)
    (mail,) = mailbox.deliver(site)
    (request,) = requests
    assert request.url == "https://email.us-east-1.amazonaws.com/v2/email/outbound-emails"
    body = json.loads(request.body)
    assert body["ConfigurationSetName"] == "signet-test"
    assert body["FromEmailAddress"] == SENDER
    assert body["Destination"] == {"ToAddresses": ["alice@xn--bcher-kva.example"]}
    assert body["EmailTags"] == [{"Name": "signet-sub", "Value": "YWxpfGNl"}]
    assert b"\r\n\r\n" in base64.b64decode(body["Content"]["Raw"]["Data"])
    assert mail.to == "alice@xn--bcher-kva.example"
