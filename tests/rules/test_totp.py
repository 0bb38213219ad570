"""One-time passwords: the vectors of RFC 4226 and RFC 6238, against pyotp and against a function of the tests."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.authentication import recovery_codes, totp
from tests.support.second_factor import SECRET, hotp

# RFC 4226 appendix D
HOTP = ("755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489")
# RFC 6238 appendix B, SHA-1: time -> the code of eight digits
TOTP = {
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}


@pytest.mark.parametrize("counter", range(len(HOTP)))
def test_vectors_of_rfc_4226(counter: int) -> None:
    assert hotp(SECRET, counter) == HOTP[counter]
    assert totp.matching_step(SECRET, HOTP[counter], (counter or 1) * totp.STEP) == counter, "of now or a step before"


@pytest.mark.parametrize("time", TOTP)
def test_vectors_of_rfc_6238(time: int) -> None:
    assert hotp(SECRET, time // totp.STEP, 8) == TOTP[time]
    assert totp.matching_step(SECRET, TOTP[time][2:], time) == time // totp.STEP
    assert totp.matching_step(SECRET, TOTP[time], time) is None, "a code has six digits"


@settings(deadline=None, database=None, derandomize=True)
@given(secret=st.binary(min_size=20, max_size=20), time=st.integers(120, 10**10), step=st.integers(-3, 3))
def test_codes_of_two_implementations_agree(secret: bytes, time: int, step: int) -> None:
    expected = {hotp(secret, time // 30 + each): time // 30 + each for each in (1, 0, -1)}
    code = hotp(secret, time // 30 + step)
    assert totp.matching_step(secret, code, time) == expected.get(code)


@settings(deadline=None, database=None, derandomize=True)
@given(text=st.text(max_size=100))
def test_any_text_is_normalized_and_rejected_or_compared(text: str) -> None:
    code = totp.normalize(text)
    assert totp.matching_step(SECRET, code, 10**9) in (None, 10**9 // 30 - 1, 10**9 // 30, 10**9 // 30 + 1)
    recovery_codes.normalize(text)


def test_secret_is_shown_in_base32_without_padding() -> None:
    assert base64.b32decode(totp.as_text(SECRET)) == SECRET
    assert "=" not in totp.as_text(SECRET)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ABCD-EFGH-IJ", "ABCDEFGHIJ"), (" abcd efgh ij ", "ABCDEFGHIJ"), ("0CD1-EF8H-IJ", "OCDIEFBHIJ"), ("", "")],
)
def test_recovery_code_may_be_typed_in_other_ways(text: str, expected: str) -> None:
    assert recovery_codes.normalize(text) == expected
