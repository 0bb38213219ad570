"""Email addresses: those that mail can be sent to, and which are the same."""

import re
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.protocol.email_addresses import MAX_LENGTH, canonical, masked, sendable

# https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address
HTML = re.compile(
    r"[a-zA-Z0-9.!#$%&'*+\/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("alice@example.com", "alice@example.com"),
        (" Alice.B+news@Example.COM ", "Alice.B+news@example.com"),
        ("o'neil!#$%&*/=?^_`{|}~-@example.com", "o'neil!#$%&*/=?^_`{|}~-@example.com"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@BU\u0308CHER.example", "a@xn--bcher-kva.example"),
        ("a@例え。jp", "a@xn--r8jz45g.jp"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
    ],
)
def test_mail_is_sent_to_the_local_part_as_written_and_the_domain_in_ascii(address: str, expected: str) -> None:
    assert sendable(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        *("", "alice", "@example.com", "alice@", "alice@localhost", "a b@example.com", "a@b c.com", "a@@example.com"),
        *("a@-example.com", "a@example-.com", "a@.example.com", "a@example..com", "a@example.com.", "a@exa_mple.com"),
        *(".a@example.com", "a.@example.com", "a..b@example.com", '"a b"@example.com', "a@[192.0.2.1]"),
        *(
            "a\n@example.com",
            "a@example.com\nBcc: b@example.com",
            "a\0@example.com",
            "a,b@example.com",
            "<a@example.com>",
        ),
        *("ä@example.com", "a@straße.example", "a@faß.de", "a@βόλος.example", "a@exam\u200dple.com", "a@\ud800.com"),
        *("a" * 65 + "@example.com", "a@" + "b" * 64 + ".com", "a@" + "b.c" * 100, "a@" + "ü" * 64 + ".com"),
    ],
)
def test_text_that_mail_cannot_be_sent_to_is_rejected_with_a_sentence(address: str) -> None:
    for function in (sendable, canonical):
        with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
            function(address)


def test_local_part_with_other_letters_is_rejected_with_the_reason() -> None:
    with pytest.raises(ValueError, match="such letters before the @"):
        sendable("alice.müller@example.com")


def test_longest_address_is_254_characters() -> None:
    domain = ".".join(["b" * 63, "b" * 63, "b" * 63]) + ".com"
    local = "a" * (MAX_LENGTH - len(domain) - 1)
    assert len(sendable(f"{local}@{domain}")) == MAX_LENGTH
    with pytest.raises(ValueError, match="254"):
        sendable(f"{local}a@{domain}")


@pytest.mark.parametrize("other", ["ALICE@example.com", "alice@EXAMPLE.com", " alice@example.com"])
def test_addresses_that_differ_in_case_are_the_same(other: str) -> None:
    assert canonical(other) == canonical("alice@example.com")


@pytest.mark.parametrize("other", ["a.lice@example.com", "alice+x@example.com", "alice@example.org"])
def test_addresses_with_other_dots_or_plus_signs_are_others(other: str) -> None:
    assert canonical(other) != canonical("alice@example.com")


def test_masked_address_shows_one_letter_and_the_domain() -> None:
    assert masked("alice@example.com") == "a•••@example.com"
    assert masked("a@example.com") == "a•••@example.com"


@given(st.text() | st.from_regex(HTML, fullmatch=True) | st.emails())
def test_accepted_address_is_one_of_the_html_standard_and_of_one_mail(text: str) -> None:
    try:
        address = sendable(text)
    except ValueError:
        return
    assert HTML.fullmatch(address)
    assert canonical(address) == canonical(canonical(text))
    assert sendable(address) == address
    message = EmailMessage(policy=SMTP)
    message["To"] = Address(addr_spec=address)
    assert [each.addr_spec for each in message["To"].addresses] == [address]
    received = message_from_bytes(message.as_bytes(), policy=SMTP)
    assert [(name, value.strip()) for name, value in received.items()] == [("To", address)]
