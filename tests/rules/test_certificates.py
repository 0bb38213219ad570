"""Certificates of clients: how they are read, which can be registered, and how their names are compared."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chalicelib.clients import registration
from chalicelib.clients.certificates import add_certificate, certificates_of, remove_certificate
from chalicelib.clients.tls_metadata import MAX_CERTIFICATES
from chalicelib.keys.certificates import (
    normal_name,
    problem_with_authority,
    problem_with_self_signed,
    read_certificate,
    read_der,
    read_pem,
    split_pem,
)
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.mutual_tls import SELF_SIGNED, TLS_CLIENT_AUTH, PresentedCertificate
from tests.support.client_certificates import (
    DAY,
    Pair,
    authority,
    issue,
    make_key,
    names_of_all_kinds,
    of_authority,
    self_signed,
    self_signed_client,
    with_client_auth,
)
from tests.support.grants import update_client
from tests.support.site import Site

# ---- names


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("CN=client,O=Example,C=US", "CN=client,O=Example,C=US"),
        ("CN=client, O=Example, C=US", "CN=client,O=Example,C=US"),
        (" CN=client,O=Example,C=US ", "CN=client,O=Example,C=US"),
        ("CN=a\\,b", "CN=a\\,b"),
        ("CN=a\\2Cb", "CN=a\\,b"),
        ("CN=a\\, O\\=b", "CN=a\\, O=b"),
        ("CN=\\C3\\A9", "CN=é"),
        ("CN=é", "CN=é"),
        ("OU=b+CN=a,O=c", "CN=a+OU=b,O=c"),
        ("2.5.4.3=client", "CN=client"),
        ("CN=#0c06636c69656e74", "CN=client"),
        ("CN=#1306636c69656e74,O=x", "CN=client,O=x"),
        ("organizationIdentifier=PSDGB-1", "2.5.4.97=PSDGB-1"),
        ("2.5.4.97=#0c07505344 4742".replace(" ", "") + "2d31", "2.5.4.97=PSDGB-1"),
        ("emailAddress=a@example.com,CN=x", "1.2.840.113549.1.9.1=a@example.com,CN=x"),
        ("E=a@example.com,CN=x", "1.2.840.113549.1.9.1=a@example.com,CN=x"),
        ("SERIALNUMBER=7,CN=x", "2.5.4.5=7,CN=x"),
        ("DC=example,DC=com", "DC=example,DC=com"),
    ],
)
def test_spellings_of_a_name_have_one_normal_form(text: str, normal: str) -> None:
    assert normal_name(text) == normal
    assert normal_name(normal) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "client",
        "CN",
        "=x",
        "CN=a,",
        "CN=a;O=b",
        "CN=a,,O=b",
        "/CN=a/O=b",
        "XX=a",
        "C=Germany",
        'CN="a"',
        "CN=#zz",
        "CN=#0c07636c69656e",
        "CN=#0c05636c69656e74",
    ],
)
def test_text_that_is_no_name_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        normal_name(text)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("CN=a,O=b", "O=b,CN=a"),
        ("CN=a", "CN=A"),
        ("CN=a b", "CN=a  b"),
        ("CN=a\\,O=b", "CN=a,O=b"),
        ("CN=a+O=b", "CN=a,O=b"),
    ],
)
def test_different_names_are_different(left: str, right: str) -> None:
    assert normal_name(left) != normal_name(right)


def test_name_of_a_certificate_has_the_same_form_as_its_text() -> None:
    """Whatever string type the authority has chosen, and in the order of the certificate."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, "PSDGB-1"),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@example.com"),
            x509.NameAttribute(NameOID.COMMON_NAME, "a,b"),
        ]
    )
    subject = read_pem(issue(name, authority()).pem).subject
    assert subject == normal_name("CN=a\\,b, emailAddress=a@example.com, organizationIdentifier=PSDGB-1, C=US")


# ---- reading


def test_certificate_is_read_by_each_of_its_forms() -> None:
    pair = of_authority()
    certificate = read_pem(pair.pem)
    assert read_der(certificate.der) == certificate
    assert split_pem(pair.pem + authority().pem) == [certificate, read_pem(authority().pem)]
    assert split_pem("") == []
    assert (certificate.self_issued, read_pem(self_signed().pem).self_issued) == (False, True)
    assert certificate.not_after == int(pair.certificate.not_valid_after_utc.timestamp())


@pytest.mark.parametrize("each", range(0, 700, 7))
def test_changed_certificate_is_another_one_or_none(each: int) -> None:
    """No byte of it can be changed without another thumbprint: it covers the whole encoding."""
    der = bytearray(read_pem(of_authority().pem).der)
    der[each % len(der)] ^= 1
    try:
        changed = read_der(bytes(der))
    except ValueError:
        return
    assert changed.thumbprint != of_authority().x5t


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_no_malformed_certificate_is_more_than_a_refusal() -> None:
    """Whatever byte is changed, and whatever the library makes of it: the server never fails."""
    pair = issue("CN=x,O=y", authority(), names=names_of_all_kinds(), extensions=[with_client_auth()])
    der, refused = read_pem(pair.pem).der, 0
    for at in range(len(der)):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            changed = bytearray(der)
            changed[at] ^= mask
            try:
                certificate = read_der(bytes(changed))
                problem_with_self_signed(certificate.der)
                problem_with_authority(certificate.der)
            except ValueError:
                refused += 1
    assert refused > len(der)


def test_extension_that_is_repeated_is_refused() -> None:
    der = bytearray(read_pem(issue("CN=x", names=[x509.DNSName("a.example")], extensions=[with_client_auth()]).pem).der)
    # The identifier of extKeyUsage (2.5.29.37) becomes that of subjectAltName (2.5.29.17).
    at = bytes(der).index(b"\x06\x03\x55\x1d\x25")
    der[at + 4] = 0x11
    with pytest.raises(ValueError, match="malformed"):
        read_der(bytes(der))


def test_first_and_last_second_of_a_certificate_are_valid() -> None:
    pair = of_authority()
    certificate, presented = read_pem(pair.pem), PresentedCertificate(pair.pem, pair.subject)
    for now in (certificate.not_before, certificate.not_after):
        assert read_certificate(presented, now) == certificate
    for now in (certificate.not_before - 1, certificate.not_after + 1):
        with pytest.raises(ValueError, match=r"expired|not valid yet"):
            read_certificate(presented, now)


# ---- certificates that clients have signed themselves


def _key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(True, False, False, False, False, key_cert_sign, False, False, False)


GOOD: dict[str, Pair] = {
    "elliptic": issue("CN=x"),
    "RSA": issue("CN=x", key=make_key("RSA-2048")),
    "SHA-512": issue("CN=x", algorithm=hashes.SHA512()),
    "without basicConstraints": issue("CN=x", authority=None),
    "with clientAuth": issue("CN=x", extensions=[with_client_auth(), _key_usage(key_cert_sign=False)]),
}


def _version_1() -> Pair:
    """Return a certificate without extensions, so that it has no basicConstraints, and some programs let it sign."""
    pair = issue("CN=x", authority=None)
    content = pair.certificate.tbs_certificate_bytes
    assert content[0] == 0x30
    assert content[1] & 0x80 == 0x80, "a long form of the length"
    content = content[2 + (content[1] & 0x7F) :]
    assert content.startswith(_VERSION_3)
    content = _sequence(content.removeprefix(_VERSION_3))
    signature = b"\x00" + pair.key.sign(content, ec.ECDSA(hashes.SHA256()))
    der = _sequence(content + _ECDSA_WITH_SHA256 + b"\x03" + bytes([len(signature)]) + signature)
    return replace(pair, certificate=x509.load_der_x509_certificate(der))


_VERSION_3 = bytes.fromhex("a003020102")
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def _sequence(content: bytes) -> bytes:
    length = len(content).to_bytes(2, "big").lstrip(b"\x00")
    assert len(content) > 127, "a short form of the length"
    return b"\x30" + bytes([0x80 + len(length)]) + length + content


BAD: dict[str, tuple[Pair, str]] = {
    "version 1": (_version_1(), "may sign other"),
    "an authority": (issue("CN=x", authority=True), "may sign other"),
    "keyCertSign": (issue("CN=x", authority=None, extensions=[_key_usage(key_cert_sign=True)]), "may sign other"),
    "of an authority": (of_authority(), "not signed by its own key"),
    "the same name, another key": (issue("CN=An authority,O=Example", authority()), "not signed by its own key"),
    "for servers": (
        issue("CN=x", extensions=[with_client_auth(ExtendedKeyUsageOID.SERVER_AUTH)]),
        "does not have clientAuth",
    ),
    "a short RSA key": (issue("CN=x", key=make_key("RSA-1024")), "needs an RSA key"),
    "a short elliptic key": (issue("CN=x", key=make_key("P-224")), "needs an RSA key"),
    "a weak hash": (issue("CN=x", algorithm=hashes.SHA224()), "SHA-256"),
    "expired": (issue("CN=x", begins=-9 * DAY, ends=-DAY), "has expired"),
    "not valid yet": (issue("CN=x", begins=DAY), "not valid yet"),
}


@pytest.mark.parametrize("case", GOOD)
def test_certificate_that_a_client_has_signed_is_registered(site: Site, case: str) -> None:
    client = self_signed_client(site, GOOD[case])
    assert [each.thumbprint for each in certificates_of(client.record)] == [GOOD[case].x5t]


@pytest.mark.parametrize("case", BAD)
@pytest.mark.spec("RFC 8705 §7.4")
def test_certificate_that_the_gateway_must_not_trust_is_refused(site: Site, case: str) -> None:
    """With an authority among them, its client could name any other one."""
    pair, problem = BAD[case]
    with pytest.raises(InvalidClientMetadata) as refused:
        self_signed_client(site, pair)
    assert problem in refused.value.description


@pytest.mark.parametrize(
    "pem", ["", "garbage", "é", self_signed().key_pem, self_signed().pem + self_signed().key_pem, self_signed().pem * 2]
)
def test_file_that_is_not_one_certificate_is_refused(site: Site, pem: str) -> None:
    client = site.client(token_endpoint_auth_methods=(SELF_SIGNED,))
    with pytest.raises(InvalidClientMetadata):
        add_certificate(site.server.store, client.record, pem)


def test_registered_certificates_are_limited_and_different(site: Site) -> None:
    client = self_signed_client(site, *(issue("CN=x") for _ in range(MAX_CERTIFICATES - 1)))
    record, _ = add_certificate(site.server.store, client.record, self_signed().pem)
    again, _ = add_certificate(site.server.store, record, self_signed().pem)
    assert again == record, "the same one is added once"
    with pytest.raises(InvalidClientMetadata, match="at most 5"):
        add_certificate(site.server.store, record, issue("CN=x").pem)
    left, removed = remove_certificate(site.server.store, record, self_signed().x5t)
    assert removed.thumbprint == self_signed().x5t
    assert len(left.tls_client_certificates or ()) == MAX_CERTIFICATES - 1
    with pytest.raises(InvalidClientMetadata, match="has no certificate"):
        remove_certificate(site.server.store, left, self_signed().x5t)


def test_certificate_is_added_to_the_record_as_it_is_now(site: Site) -> None:
    """Another command may have changed it since it was read."""
    first, second = issue("CN=x"), issue("CN=x")
    client = site.client(token_endpoint_auth_methods=(SELF_SIGNED,)).record
    add_certificate(site.server.store, client, first.pem)
    record, _ = add_certificate(site.server.store, client, second.pem)
    assert [each.thumbprint for each in certificates_of(record)] == [first.x5t, second.x5t]


def test_authority_is_one_that_may_sign() -> None:
    assert problem_with_authority(read_pem(authority().pem).der) == ""
    for pair in (of_authority(), self_signed(), issue("CN=x", authority=None)):
        assert "not the certificate of an authority" in problem_with_authority(read_pem(pair.pem).der)
    weak = issue("CN=x", authority=True, key=make_key("RSA-1024"))
    assert "needs an RSA key" in problem_with_authority(read_pem(weak.pem).der)
    assert problem_with_self_signed(read_pem(authority().pem).der)


# ---- client metadata

PKI = (TLS_CLIENT_AUTH,)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"token_endpoint_auth_methods": PKI}, "needs one of"),
        (
            {
                "token_endpoint_auth_methods": PKI,
                "tls_client_auth_subject_dn": "CN=a",
                "tls_client_auth_san_dns": "a.example",
            },
            "by one name",
        ),
        ({"tls_client_auth_subject_dn": "CN=a", "tls_client_auth_san_ip": "192.0.2.1"}, "by one name"),
        ({"tls_client_auth_subject_dn": "client"}, "tls_client_auth_subject_dn must be"),
        ({"tls_client_auth_subject_dn": "CN=" + "a," * 600}, "tls_client_auth_subject_dn must be"),
        ({"tls_client_auth_subject_dn": ",".join(["DC=aaaa"] * 126)}, "tls_client_auth_subject_dn must be"),
        ({"tls_client_auth_san_dns": "*.example.com"}, "tls_client_auth_san_dns must be"),
        ({"tls_client_auth_san_dns": "https://a.example"}, "tls_client_auth_san_dns must be"),
        ({"tls_client_auth_san_dns": ""}, "tls_client_auth_san_dns must be"),
        ({"tls_client_auth_san_uri": "client"}, "tls_client_auth_san_uri must be"),
        ({"tls_client_auth_san_uri": "https://é.example"}, "tls_client_auth_san_uri must be"),
        ({"tls_client_auth_san_ip": "192.0.2"}, "tls_client_auth_san_ip must be"),
        ({"tls_client_auth_san_ip": "192.0.2.0/24"}, "tls_client_auth_san_ip must be"),
        ({"tls_client_auth_san_email": "client"}, "tls_client_auth_san_email must be"),
        ({"tls_client_certificates": ("AAAA",), "token_endpoint_auth_methods": (SELF_SIGNED,)}, "not a certificate"),
        ({"tls_client_certificates": ("é",), "token_endpoint_auth_methods": (SELF_SIGNED,)}, "not a certificate"),
        (
            {"tls_client_certificate_bound_access_tokens": True, "dpop_bound_access_tokens": True},
            "choose one",
        ),
        ({"token_endpoint_auth_methods": ("none", *PKI), "tls_client_auth_subject_dn": "CN=a"}, "has no other one"),
    ],
)
@pytest.mark.spec("RFC 8705 §2.1.2 a")
def test_client_metadata_that_cannot_work_are_refused(site: Site, members: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidClientMetadata) as refused:
        site.client(**members)
    assert problem in refused.value.description


def test_name_of_a_certificate_may_have_a_thousand_characters(site: Site) -> None:
    client = site.client(token_endpoint_auth_methods=PKI, tls_client_auth_subject_dn=",".join(["DC=aaaa"] * 125))
    assert len(client.record.tls_client_auth_subject_dn or "") == 999


def test_record_has_no_certificate_twice(site: Site) -> None:
    client = self_signed_client(site).record
    twice = (client.tls_client_certificates or ()) * 2
    with pytest.raises(InvalidClientMetadata, match="at most 5 different certificates"):
        registration.update_client(
            site.server.store, client, lambda current: replace(current, tls_client_certificates=twice)
        )


def test_certificates_are_for_their_method(site: Site) -> None:
    client = self_signed_client(site)
    with pytest.raises(InvalidClientMetadata, match="are for the authentication method"):
        site.client(tls_client_certificates=client.record.tls_client_certificates)
    record = update_client(site, client, tls_client_certificate_bound_access_tokens=True)
    assert site.server.store.clients.get(client.id) == record, "all members are stored and read"


def test_record_of_another_client_does_not_grow(site: Site) -> None:
    """Neither its cost nor its time in the cache changes."""
    client = site.client()
    (item,) = [
        each
        for each in site.server.store.dynamodb.client.call("Scan", TableName=site.server.store.clients.name)["Items"]
        if each["client_id"]["S"] == client.id
    ]
    assert not [name for name in item if name.startswith("tls_")]
