"""The way to the applications: where a logout token is sent, and who may keep us waiting for how long."""

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chalicelib import backchannel
from chalicelib.backchannel import Undeliverable
from tests.receivers import OK, Behaviour, Receiver, answer, endlessly, silence, status

HERE = ("127.0.0.0/8",)
BODY = b"logout_token=x"
Receivers = Callable[..., Receiver]


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receivers]:
    """Makes servers; who waits for one, waits for a short time only."""
    monkeypatch.setattr(backchannel, "SECONDS", 0.5)
    made: list[Receiver] = []

    def make(behave: Behaviour | None = None, **options: Any) -> Receiver:
        made.append(Receiver(behave, **options))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


# ---- where it goes

PRIVATE = [
    "https://127.0.0.1/",
    "https://127.0.0.1:8443/logout",
    "https://localhost/",
    "https://[::1]/",
    "https://0.0.0.0/",
    "https://[::]/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://198.18.0.1/",
    "https://192.0.2.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://224.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://[fe80::1]/",
    "https://[fc00::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    # an IPv4 address in an IPv6 one
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::169.254.169.254]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    # other spellings of 127.0.0.1, which a system's resolver understands
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://0/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_nothing_is_sent_to_an_address_that_is_not_public(url: str) -> None:
    with pytest.raises(Undeliverable, match=r"not public|not known"):
        backchannel.post(url, BODY)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "52.94.236.248", "2606:4700:4700::1111", "2a05:d018::1", "::ffff:1.1.1.1"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert backchannel.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https:///nowhere",
        "ftp://1.1.1.1/",
        "file:///etc/passwd",
        "gopher://1.1.1.1/",
        "https://user:password@1.1.1.1/",
        "https://1.1.1.1:0x50/",
        "https://1.1.1.1:99999/",
        "https://[::1/",
        "https://1.1.1.1/a b",
        "https://1.1.1.1/\r\nHost: evil.example",
        "https://1.1.1.1/é",
    ],
)
def test_what_is_no_plain_url_is_sent_nowhere(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(Undeliverable):
        backchannel.post(url, BODY)


def test_plain_http_is_for_listed_networks_only() -> None:
    with pytest.raises(Undeliverable, match="plain http"):
        backchannel.post("http://1.1.1.1/", BODY)
    with pytest.raises(Undeliverable, match="plain http"):
        backchannel.post("http://1.1.1.1/", BODY, HERE)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]"])
def test_a_listed_network_is_reached_by_http(receivers: Receivers, host: str) -> None:
    receiver = receivers()
    assert backchannel.post(f"http://{host}:{receiver.port}/a/b?c=d", BODY, ("10.0.0.0/8", *HERE)) == 200
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a/b?c=d HTTP/1.1"
    assert f"Host: {host}:{receiver.port}" in lines
    assert "Content-Type: application/x-www-form-urlencoded" in lines
    assert not [line for line in lines if line.lower().startswith(("cookie", "authorization", "proxy"))]
    assert body == BODY


def test_a_url_without_a_path_leads_to_the_root(receivers: Receivers) -> None:
    receiver = receivers()
    assert backchannel.post(f"http://127.0.0.1:{receiver.port}?x=1", BODY, HERE) == 200
    assert receiver.requests[0].startswith(b"POST /?x=1 HTTP/1.1\r\n")


class Resolver:
    """A name that leads somewhere else each time somebody asks."""

    def __init__(self, *answers: tuple[str, ...]):
        self._answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        found = self._answers.pop(0)
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(families[ipaddress.ip_address(a).version], socket.SOCK_STREAM, 6, "", (a, port)) for a in found]


def test_a_name_is_looked_up_once_and_the_checked_address_is_the_one(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, resolver = receivers(), Resolver(("127.0.0.1",), ("10.0.0.1",))
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert backchannel.post(f"http://rp.example:{receiver.port}/", BODY, HERE) == 200
    assert resolver.asked == 1
    assert f"Host: rp.example:{receiver.port}".encode() in receiver.requests[0]


def test_a_name_with_one_address_that_is_not_public_is_no_name_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(("1.1.1.1", "127.0.0.1")))
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(Undeliverable, match="not public"):
        backchannel.post("https://rp.example/", BODY)


def test_of_several_addresses_the_first_that_answers_is_taken(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receivers()
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(("::1", "127.0.0.1")))
    assert backchannel.post(f"http://rp.example:{receiver.port}/", BODY, (*HERE, "::1/128")) == 200


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receivers()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first:
        first.connect(full.getsockname())  # and nobody else gets in
        found = [(int(socket.AF_INET), full.getsockname()), (int(socket.AF_INET), ("127.0.0.1", receiver.port))]
        monkeypatch.setattr(backchannel, "_look_up", lambda _host, _port: found)
        assert backchannel.post(receiver.url, BODY, HERE) == 200


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_is_used(receivers: Receivers, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert backchannel.post(receivers().url, BODY, HERE) == 200


# ---- what it is answered


@pytest.mark.parametrize(
    ("behave", "expected"),
    [
        (answer(OK), 200),
        (answer(b"HTTP/1.0 200 OK\r\n\r\nsome text"), 200),
        (answer(b"HTTP/1.1 204\r\n\r\n"), 204),
        (answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", OK), 200),
        (answer(b"HTTP/1.1 ", b"400 Bad Request\r\nContent-Type: application/json\r\n\r\n{}"), 400),
        (status(501), 501),
        (status(302, "Location: http://127.0.0.1:1/"), 302),
        (status(307, "Location: http://169.254.169.254/"), 307),
        (endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536), 200),
        (endlessly(b"HTTP/1.1 200 OK\r\n", b"X-Header: more\r\n" * 100), 200),
        (endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"x", pause=0.05), 200),
    ],
    ids=[
        "200",
        "HTTP/1.0, without a length",
        "204, without a reason",
        "after interim answers",
        "in pieces",
        "501",
        "a redirect is not followed",
        "nor to the metadata of the machine",
        "an endless body",
        "an endless head",
        "a slow body",
    ],
)
def test_the_status_is_what_counts(receivers: Receivers, behave: Behaviour, expected: int) -> None:
    receiver = receivers(behave)
    assert backchannel.post(receiver.url, BODY, HERE) == expected
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (silence, "no answer within"),
        (endlessly(b"H", b"T", pause=0.05), "not HTTP|no answer within"),
        (endlessly(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"), "not HTTP"),
        (endlessly(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.05), "no answer within"),
        (endlessly(b"\0", b"\0" * 65536), "not HTTP"),
        (answer(b""), "not HTTP"),
        (answer(b"SSH-2.0-OpenSSH_9.6\r\n"), "not HTTP"),
        (answer(b"HTTP/2 200\r\n\r\n"), "not HTTP"),
        (answer(b"HTTP/1.1 20"), "not HTTP"),
        (answer(b"HTTP/1.1 2000\r\n\r\n"), "not HTTP"),
    ],
    ids=[
        "silence",
        "a byte now and then",
        "interim answers without end",
        "slow interim answers without end",
        "rubbish without end",
        "hangs up",
        "another protocol",
        "another version",
        "half a status",
        "too much of a status",
    ],
)
def test_whoever_gives_no_answer_is_given_up_in_time(receivers: Receivers, behave: Behaviour, reason: str) -> None:
    with pytest.raises(Undeliverable, match=reason):
        backchannel.post(receivers(behave).url, BODY, HERE)


def test_nobody_there_is_a_failure_too(receivers: Receivers) -> None:
    receiver = receivers()
    receiver.close()
    with pytest.raises(Undeliverable, match="the connection failed: ConnectionRefusedError"):
        backchannel.post(receiver.url, BODY, HERE)


def test_an_unknown_name_is_a_failure_too() -> None:
    with pytest.raises(Undeliverable, match="not known"):
        backchannel.post("https://nobody.invalid/", BODY)


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an application")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def trusting(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The certificate is among those that the system trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    backchannel._tls.cache_clear()
    yield
    backchannel._tls.cache_clear()


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_over_https_the_server_proves_its_name(receivers: Receivers, certificate: Path, trusting: None) -> None:
    receiver = receivers(tls=tls(certificate))
    assert backchannel.post(f"https://127.0.0.1:{receiver.port}/", BODY, HERE) == 200
    assert receiver.requests[0].endswith(BODY)


def test_a_server_of_another_name_gets_nothing(
    receivers: Receivers, certificate: Path, trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receivers(tls=tls(certificate))
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(("127.0.0.1",)))
    with pytest.raises(Undeliverable, match="SSLCertVerificationError"):
        backchannel.post(f"https://rp.example:{receiver.port}/", BODY, HERE)
    assert receiver.requests == []


def test_a_certificate_that_nobody_vouches_for_is_none(receivers: Receivers, certificate: Path) -> None:
    receiver = receivers(tls=tls(certificate))
    with pytest.raises(Undeliverable, match="SSLCertVerificationError"):
        backchannel.post(f"https://127.0.0.1:{receiver.port}/", BODY, HERE)
    assert receiver.requests == []


def test_a_tls_server_that_says_nothing_is_given_up_in_time(receivers: Receivers, trusting: None) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with listening, pytest.raises(Undeliverable, match="no answer within"):
        backchannel.post(f"https://127.0.0.1:{listening.getsockname()[1]}/", BODY, HERE)
