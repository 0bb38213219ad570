"""The numbers in the guides are those of the code: a change of one needs a change of the sentence, and the reverse."""

from pathlib import Path

import pytest

from chalicelib.authentication import passkey_options, recovery_codes, second_factor
from chalicelib.authorization import request, request_object, response
from chalicelib.authorization import second_factor as second_factor_step
from chalicelib.clients import (
    assertions,
    client_lifetime,
    document_cache,
    document_content,
    document_control,
    documents,
    dynamic_registration,
    key_sets,
    registration_body,
    registration_limits,
    tls_metadata,
)
from chalicelib.http import outbound
from chalicelib.mail import limits, proof_codes
from chalicelib.protocol import authorization_details, client_document, dpop, next_step, passkey, proof
from chalicelib.tokens import resources
from chalicelib.users import account_data

DOCS = Path(__file__).parents[2] / "docs"
MINUTE, HOUR, DAY = 60, 3600, 86400
LIMITS = [
    # emails
    ("accounts", "The code and the link are valid for 30 minutes", proof.LIFETIMES[proof.RESET], 30 * MINUTE),
    ("accounts", "The code and the link are valid for 10 minutes", proof.LIFETIMES[proof.SIGN_IN], 10 * MINUTE),
    ("accounts", "undo the change for 72 hours", proof.LIFETIMES[proof.UNDO], 72 * HOUR),
    ("accounts", "An invitation is valid for 7 days", proof.LIFETIMES[proof.INVITATION], 7 * DAY),
    ("accounts", "Code and link are valid for a day, and end with the sessions", proof.LIFETIMES[proof.VERIFY], DAY),
    ("accounts", "types the code of the email, which is valid for a day", proof.LIFETIMES[proof.SIGN_UP], DAY),
    ("accounts", "five wrong codes", proof.MAX_TRIES, 5),
    ("accounts", "all who have the link share twenty", proof.MAX_LINK_TRIES, 20),
    ("accounts", "A code has 8 characters of 30", (proof_codes.CODE_LENGTH, len(set(proof_codes.ALPHABET))), (8, 30)),
    ("email", "3 in 15 minutes, 10 in a day", limits.FOR_ADDRESS, ((15 * MINUTE, 3), (DAY, 10))),
    ("email", "20 in an hour", limits.FOR_CALLER, (HOUR, 20)),
    # passkeys and the second factor
    ("passkeys", "A user has at most 20 passkeys", passkey.MAX_PASSKEYS, 20),
    ("passkeys", "in the last five minutes", passkey_options.LIFETIME, 5 * MINUTE),
    ("passkeys", "possible for five minutes after a sign-in", next_step.RECENT_ELSEWHERE, 5 * MINUTE),
    ("second-factor", "Save the ten recovery codes", recovery_codes.CODES, 10),
    ("second-factor", "warns of the last two", recovery_codes.FEW, 2),
    ("second-factor", "for five minutes, in the browser", second_factor_step.WAITS_FOR, 5 * MINUTE),
    (
        "second-factor",
        "5 wrong codes in 15 minutes are possible and 20 in a day",
        (second_factor.ATTEMPTS, second_factor.SHORT.lasts, second_factor.ATTEMPTS_PER_DAY),
        (5, 15 * MINUTE, 20),
    ),
    (
        "second-factor",
        "within ten minutes after a sign-in for this request, and within five after another one",
        (next_step.RECENT, next_step.RECENT_ELSEWHERE),
        (10 * MINUTE, 5 * MINUTE),
    ),
    ("account-pages", "only the newest 5,000 records", account_data.MOST_RECORDS, 5000),
    # clients that the operator has not registered
    ("self-registration", "Within 3 seconds, at most 5 KiB", (documents.SECONDS, documents.MAX_BYTES), (3.0, 5 * 1024)),
    (
        "self-registration",
        "between a minute and a day; without it, for an hour",
        (documents.FRESH_AT_LEAST, documents.FRESH_AT_MOST, documents.FRESH_FOR),
        (MINUTE, DAY, HOUR),
    ),
    ("self-registration", "the copy is used for 7 days", documents.STALE_FOR, 7 * DAY),
    (
        "self-registration",
        "can cause 30 fetches of unknown documents in an hour, a host gets 300",
        (documents.FETCHES_PER_ADDRESS, documents.FETCHES_PER_HOST),
        (30, 300),
    ),
    ("self-registration", "has 300 of its own", documents.FETCHES_PER_LISTED_URL, 300),
    ("self-registration", "at most 512 characters", client_document.MAX_URL, 512),
    ("self-registration", "1 to 10, by the rules", document_content.MAX_REDIRECT_URIS, 10),
    ("self-registration", "up to 1,000 hosts", document_control.MAX_HOSTS, 1000),
    (
        "self-registration",
        "at most 64 KiB within 4 seconds",
        (key_sets.MAX_BYTES, outbound.SECONDS),
        (64 * 1024, 4.0),
    ),
    (
        "self-registration",
        "fetched again after 5 minutes",
        (key_sets.FRESH_FOR, key_sets.STALE_FOR, key_sets.FETCHES_PER_HOST),
        (5 * MINUTE, DAY, 300),
    ),
    ("self-registration", "at most every 30 seconds", (key_sets.PAUSE, document_cache.PAUSE), (30, 30)),
    ("self-registration", "a JSON object of at most 16 kB", registration_body.MAX_BODY, 16 * 1024),
    ("self-registration", "the earlier one is accepted for a minute", dynamic_registration.RETRY_WINDOW, MINUTE),
    ("self-registration", "counted in 256 counters", registration_limits.COUNTERS, 256),
    ("self-registration", "at most 10 clients in a minute", registration_limits.SAME_PER_MINUTE, 10),
    (
        "self-registration",
        "no tokens for 30 days after its registration, later for 400 days",
        (client_lifetime.UNUSED_LIFETIME, client_lifetime.LIFETIME),
        (30 * DAY, 400 * DAY),
    ),
    # what clients sign
    ("reference", "A `request_uri` is valid for 5 minutes", request.PUSHED_LIFETIME, 5 * MINUTE),
    ("reference", "an `exp` in 10 minutes", response.LIFETIME, 10 * MINUTE),
    ("reference", "Clocks may differ by 60 seconds", assertions.CLOCK_DIFFERENCE, MINUTE),
    ("reference", "An assertion has at most 8,192 characters", assertions.MAX_LENGTH, 8192),
    ("reference", "1 to 256 characters; each can be used once", assertions.MAX_JTI, 256),
    ("reference", "at most an hour ahead", assertions.MAX_LIFETIME, HOUR),
    ("reference", "at most an hour before now and before `exp`", request_object.MAX_LIFETIME, HOUR),
    ("reference", "1 to 128 ASCII characters", dpop.MAX_JTI, 128),
    ("reference", "a JWT of at most 4,096 characters", dpop.MAX_LENGTH, 4096),
    ("reference", "at most 60 seconds ago, and 10 ahead", (dpop.MAX_AGE, dpop.MAX_AHEAD), (60, 10)),
    ("reference", "of the last 2 to 4 minutes", dpop.NONCE_PERIOD, 2 * MINUTE),
    ("reference", "differ by 60 seconds", request_object.CLOCK_DIFFERENCE, MINUTE),
    ("mtls", "A client has at most five", tls_metadata.MAX_CERTIFICATES, 5),
    (
        "authorization-details",
        "At most 10 different objects, for 10 resources, 100 values, 8 levels and 8,192 characters as JSON",
        (
            authorization_details.MAX_DETAILS,
            resources.MAX_RESOURCES,
            authorization_details.MAX_VALUES,
            authorization_details.MAX_DEPTH,
            authorization_details.MAX_LENGTH,
        ),
        (10, 10, 100, 8, 8192),
    ),
]


@pytest.mark.parametrize(("page", "sentence", "actual", "expected"), LIMITS, ids=[row[1] for row in LIMITS])
def test_limit_in_a_guide_is_that_of_the_code(page: str, sentence: str, actual: object, expected: object) -> None:
    assert actual == expected
    text = " ".join((DOCS / f"{page}.md").read_text("utf-8").split())
    assert sentence in text, f"docs/{page}.md no longer says so"
