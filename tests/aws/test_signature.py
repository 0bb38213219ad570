"""Signature Version 4: equal to botocore's, and to the signatures that AWS has published."""

import datetime
import random
from unittest import mock

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.aws.credentials import Credentials
from chalicelib.aws.messages import Request
from chalicelib.aws.signature import Signer

# ---- botocore

EXAMPLES, REQUESTS = 100, 100
_VISIBLE = [chr(code) for code in range(0x20, 0x7F)]
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Generator:
    """Makes requests as the client does, with other headers too. Hypothesis itself takes ten times longer for each."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def word(self) -> str:
        return "".join(self._random.choices(_LETTERS, k=self._random.randint(1, 12)))

    def text(self) -> str:
        return "".join(self._random.choices(_VISIBLE, k=self._random.randint(0, 20)))

    def request(self) -> Request:
        choose = self._random.choice
        host = f"{self.word()}.{self.word()}.example.com{choose(['', ':443', ':80', ':8000'])}"
        url = f"{choose(['http', 'https'])}://{host}{choose(['', '/', '/v2/email/outbound-emails', '/a~b_c.d-e'])}"
        headers = {
            "Content-Type": choose(["application/x-amz-json-1.0", "application/x-amz-json-1.1"]),
            "User-Agent": "signet",
            "X-Amz-Target": f"{self.word()}.{self.word()}",
        }
        headers |= {f"X-{self.word().title()}": self.text() for _ in range(self._random.randint(0, 3))}
        return Request("POST", url, headers, self._random.randbytes(self._random.randint(0, 200)))

    def credentials(self) -> Credentials:
        return Credentials(self.word().upper(), "x" + self.text(), self._random.choice(["", self.word()]))

    def moment(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._random.randrange(4_000_000_000), datetime.UTC)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**64))
def test_ten_thousand_requests_are_signed_as_by_botocore(seed: int) -> None:
    make = Generator(seed)
    for _ in range(REQUESTS):
        request, credentials, service, region, moment = (
            *(make.request(), make.credentials(), make.word(), make.word()),
            make.moment(),
        )
        expected = AWSRequest(request.method, request.url, dict(request.headers), request.body)
        theirs = BotocoreCredentials(*credentials[:2], credentials.session_token or None)
        with mock.patch.object(auth, "get_current_datetime", lambda moment=moment: moment):
            auth.SigV4Auth(theirs, service, region).add_auth(expected)
        Signer(service, region).sign(request, credentials, moment.timestamp())
        for name in ("Authorization", "X-Amz-Date", "X-Amz-Security-Token"):
            assert request.headers.get(name) == expected.headers.get(name), name


# ---- AWS

PUBLISHED = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
MOMENT = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC).timestamp()
_TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7"
    "mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d"
    "+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
_UNRESERVED = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Of AWS's test suite, the requests that the client can make: without a query, and with a plain path.
# https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4
VECTORS: list[tuple[str, str, dict[str, str], bytes, str, str, str]] = [
    (
        "post-vanilla",
        "POST /",
        {},
        b"",
        "",
        "host;x-amz-date",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    (
        "get-unreserved",
        f"GET {_UNRESERVED}",
        {},
        b"",
        "",
        "host;x-amz-date",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    (
        "get-header-value-trim",
        "GET /",
        {"My-Header1": " value1", "My-Header2": ' "a   b   c"'},
        b"",
        "",
        "host;my-header1;my-header2;x-amz-date",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    (
        "post-header-value-case",
        "POST /",
        {"My-Header1": "VALUE1"},
        b"",
        "",
        "host;my-header1;x-amz-date",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    (
        "post-sts-header-before",
        "POST /",
        {},
        b"",
        _TOKEN,
        "host;x-amz-date;x-amz-security-token",
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
    ),
    (
        "get-vanilla-with-session-token",
        "GET /",
        {},
        b"",
        "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
        "host;x-amz-date;x-amz-security-token",
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
    (
        "post-x-www-form-urlencoded-parameters",
        "POST /",
        {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "Content-Length": "13",
            "x-amz-content-sha256": "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
        },
        b"Param1=value1",
        "",
        "content-length;content-type;host;x-amz-content-sha256;x-amz-date",
        "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422",
    ),
]


@pytest.mark.parametrize(
    ("name", "target", "headers", "body", "token", "signed", "signature"), VECTORS, ids=[row[0] for row in VECTORS]
)
def test_published_requests_have_the_published_signatures(
    name: str, target: str, headers: dict[str, str], body: bytes, token: str, signed: str, signature: str
) -> None:
    method, path = target.split(" ")
    request = Request(method, f"https://example.amazonaws.com{path}", dict(headers), body)
    Signer("service", "us-east-1").sign(request, PUBLISHED._replace(session_token=token), MOMENT)
    assert request.headers["X-Amz-Date"] == "20150830T123600Z"
    assert request.headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={signed}, Signature={signature}"
    )


# ---- signing again


def test_another_day_and_other_credentials_are_signed_with_another_key() -> None:
    signer, day = Signer("dynamodb", "eu-west-1"), 86400.0
    cases = [(PUBLISHED, 0.0), (PUBLISHED, 1.0), (PUBLISHED, day), (PUBLISHED._replace(secret_access_key="x"), day)]
    for credentials, now in cases * 2:
        request, fresh = Request("POST", "https://example.com"), Request("POST", "https://example.com")
        signer.sign(request, credentials, now)
        Signer("dynamodb", "eu-west-1").sign(fresh, credentials, now)
        assert request.headers == fresh.headers


def test_signing_again_replaces_the_signature_and_the_session_token() -> None:
    request, signer = Request("POST", "https://example.com"), Signer("kms", "eu-west-1")
    signer.sign(request, PUBLISHED._replace(session_token="old"), 0)
    signer.sign(request, PUBLISHED, 60)
    fresh = Request("POST", "https://example.com")
    Signer("kms", "eu-west-1").sign(fresh, PUBLISHED, 60)
    assert request.headers == fresh.headers
    assert "X-Amz-Security-Token" not in request.headers


def test_credentials_do_not_show_their_secrets() -> None:
    shown = repr(Credentials("AKID", "the secret", "the token"))
    assert "AKID" in shown
    assert "the" not in shown
