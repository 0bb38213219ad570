"""The authentication context of a sign-in: which factors it used, its `acr`, and what requests and policy demand.

There are three levels: one factor, two factors, and a key that resists phishing (a passkey). Each has an `acr` value
(OpenID Connect Core section 2). A higher level satisfies a demand for a lower one.
"""

from collections.abc import Collection, Iterable

from chalicelib.protocol.client import Client
from chalicelib.protocol.passkey import AMR as BY_PASSKEY
from chalicelib.protocol.records import AuthorizationRequest, Session, User
from chalicelib.protocol.values import dataclass

# The `acr` of one factor: a password over TLS.
PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"  # noqa: S105
REFEDS_MFA = "https://refeds.org/profile/mfa"  # REFEDS MFA Profile, section on OpenID Connect
# OpenID Connect Extended Authentication Profile (EAP) ACR Values 1.0 section 2
PHISHING_RESISTANT = "phr"
ONE_FACTOR, TWO_FACTORS, PASSKEY = 1, 2, 3
UNREACHABLE = 4
MODES = ("optional", "off", "required")
# How a user signed in (RFC 8176 section 2). A recovery code is a one-time password, too.
BY_PASSWORD = ("pwd",)
BY_EMAIL_CODE = ("otp",)
BY_PASSWORD_AND_CODE = ("pwd", "otp", "mfa")
# What a user can decline for one request: a level that it only prefers, and to set up a second factor ahead of time.
DECLINED_PREFERENCE, DECLINED_ENROLMENT = "preference", "enrolment"


def level(amr: Collection[str]) -> int:
    """Return the level of a sign-in with these methods."""
    if "mfa" not in amr:
        return ONE_FACTOR
    return PASSKEY if "pop" in amr else TWO_FACTORS


def with_code(amr: tuple[str, ...]) -> tuple[str, ...]:
    """Return the methods of a session whose user has also entered a one-time code."""
    return tuple(dict.fromkeys((*(method for method in amr if method != "mfa"), "otp", "mfa")))


def with_passkey(amr: tuple[str, ...]) -> tuple[str, ...]:
    """Return the methods of a session whose user has also used a passkey."""
    return tuple(dict.fromkeys((*(method for method in amr if method != "mfa"), *BY_PASSKEY)))


def authenticated_at(session: Session, of_level: int = UNREACHABLE) -> int:
    """Return when the user last authenticated: by the newest of the factors that a level needs."""
    return max(session.auth_time, session.mfa_time) if of_level > ONE_FACTOR else session.auth_time


@dataclass(frozen=True)
class Demand:
    """What a request demands of the sign-in. `preferred`: levels, the best first, that must not cause an error."""

    required: int = ONE_FACTOR
    preferred: tuple[int, ...] = ()

    def level_for(self, reachable: int) -> int:
        """Return the level that a sign-in must have, of a user who can reach the level `reachable`."""
        preferred = next((each for each in self.preferred if each <= reachable), ONE_FACTOR)
        return max(self.required, preferred)


NO_DEMAND = Demand()


@dataclass(frozen=True)
class Policy:
    """The server's policy: `mode` is one of MODES, `acr` the value of two factors.

    `passkeys`: whether users can have any. `required_from`: when the mode `required` begins; before that, users are
    asked to set up a second factor, and can decline.
    """

    mode: str = MODES[0]
    acr: str = REFEDS_MFA
    passkeys: bool = False
    required_from: int | None = None

    @property
    def highest(self) -> int:
        """The highest level that a request can demand."""
        if self.mode == "off":
            return ONE_FACTOR
        return PASSKEY if self.passkeys else TWO_FACTORS

    @property
    def acr_values(self) -> tuple[str, ...]:
        """The values that a sign-in can have, by ascending level."""
        return (PASSWORD, self.acr, PHISHING_RESISTANT)[: self.highest]

    def level_of(self, acr: str) -> int:
        """Return the level of an `acr` value; UNREACHABLE for one that no sign-in has."""
        return self.acr_values.index(acr) + 1 if acr in self.acr_values else UNREACHABLE

    def reached(self, amr: Collection[str]) -> str:
        """Return the `acr` of a sign-in with these methods."""
        return (PASSWORD, self.acr, PHISHING_RESISTANT)[level(amr) - 1]

    def requires_two(self, now: int | None = None) -> bool:
        """Return whether every user needs two factors at this time; by default, once the setting is in force."""
        is_early = now is not None and self.required_from is not None and now < self.required_from
        return self.mode == "required" and not is_early

    def asks_to_enrol(self, now: int) -> bool:
        """Return whether users are asked to set up a second factor, because they will need one."""
        return self.mode == "required" and not self.requires_two(now)

    def asks_for_code(self, user: User) -> bool:
        """Return whether this user must enter a code after the password."""
        return self.mode != "off" and user.has_second_factor

    def reachable(self, user: User, amr: Collection[str] = (), *, has_passkey: bool = False) -> int:
        """Return the highest level that a user can reach now, without setting up another factor."""
        by_passkey = self.highest if has_passkey else ONE_FACTOR
        return max(level(amr), by_passkey, TWO_FACTORS if self.asks_for_code(user) else ONE_FACTOR)

    def depends_on_passkeys(self, demand: Demand, user: User, amr: Collection[str]) -> bool:
        """Return whether the next step of a user depends on having a passkey."""
        needed = demand.level_for(self.highest)
        return self.highest == PASSKEY and level(amr) < needed and (needed == PASSKEY or not self.asks_for_code(user))

    def demand(
        self, request: AuthorizationRequest, client: Client, of_scopes: Iterable[str] = (), now: int | None = None
    ) -> Demand:
        """Return what a request demands. `of_scopes`: the `acr` values that its scopes require. `now`: the time.

        The setting, the client, the scopes and an essential `acr` (OpenID Connect Core section 5.5.1.1) are required;
        `acr_values`, or the client's default ones, and an `acr` that is not essential are preferences, which the user
        can decline.
        """
        required = [TWO_FACTORS if self.requires_two(now) else ONE_FACTOR]
        required += [self.level_of(acr) for acr in (*of_scopes, *([client.require_acr] if client.require_acr else []))]
        claim = request.claims.get("id_token", {}).get("acr", {})
        by_claim = [self.level_of(acr) for acr in claim.get("values", ())]
        if claim.get("essential") and by_claim:
            required.append(min(by_claim))
        if DECLINED_PREFERENCE in request.declined:
            return Demand(max(required))
        by_parameter = request.acr_values or client.default_acr_values
        preferred = [*by_claim, *(self.level_of(acr) for acr in by_parameter)]
        return Demand(max(required), tuple(preferred))
