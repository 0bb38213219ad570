"""The check of what sends mail: the identity in Amazon SES, the account, and the configuration set."""

from collections.abc import Iterator
from typing import Any

from chalicelib.settings import Settings
from infra.operator.doctor.findings import Verdict, judge, skipped
from infra.operator.doctor.stage import Inside

_REASONS = {"BOUNCE", "COMPLAINT"}
_NO_SENDER = (
    "No mail can be sent, because SIGNET_EMAIL_FROM is not set: no page offers a forgotten password or another "
    "function that needs mail. To send mail: `signet deploy --stage {stage} --param EmailFrom=login@example.com`."
)
_NO_SENDER_FOR_CODES = (
    "SIGNET_EMAIL_CODE_SIGN_IN is on, but no code can be sent, because SIGNET_EMAIL_FROM is not set: the sign-in page "
    "does not offer it"
)
_NO_SUPPORT = " Pages name no address for help either: set SIGNET_SUPPORT_URL."


def sending(inside: Inside) -> Verdict:
    """Check that SES accepts mails from the sender to any address, and keeps those back that were returned."""
    if inside.function is None:
        return skipped("The function is missing.")
    sender = inside.variables.get("SIGNET_EMAIL_FROM", "")
    offers_code = inside.variables.get("SIGNET_EMAIL_CODE_SIGN_IN") == "on"
    if offers_code and not sender:
        return judge([_NO_SENDER_FOR_CODES], "", f"`signet deploy --stage {inside.stage} --param EmailFrom=…`")
    if not sender:
        no_support = "" if inside.variables.get("SIGNET_SUPPORT_URL") else _NO_SUPPORT
        return skipped(_NO_SENDER.format(stage=inside.stage) + no_support)
    ses = inside.aws("sesv2")
    identity = _identity(ses, sender)
    problems: list[str] = []
    if not inside.variables.get("SIGNET_ISSUER"):
        problems.append("SIGNET_ISSUER is not set, so no mail is sent: its links need the address of the server")
    if identity is None:
        problems.append(f"There is no identity for {sender} in SES of this region")
    else:
        problems += _problems_of_identity(*identity)
    if offers_code and inside.variables.get("SIGNET_LOGIN_URL"):
        problems.append("SIGNET_EMAIL_CODE_SIGN_IN is on, but the login application at SIGNET_LOGIN_URL asks instead")
    problems += _problems_of_account(ses.get_account(), inside.variables)
    problems += _problems_of_set(ses, inside.variables.get("SIGNET_EMAIL_CONFIGURATION_SET", ""))
    return judge(problems, f"Mail is sent from {sender}.", "docs/email.md says how to set up SES.")


def _identity(ses: Any, sender: str) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the description of the identity that SES uses: of the address, or of its domain."""
    for name in (sender, sender.rpartition("@")[2]):
        try:
            return name, ses.get_email_identity(EmailIdentity=name)
        except ses.exceptions.NotFoundException:
            continue
    return None


def _problems_of_identity(name: str, identity: dict[str, Any]) -> Iterator[str]:
    dkim = identity.get("DkimAttributes", {})
    if not identity.get("VerifiedForSendingStatus"):
        tokens = dkim.get("Tokens", []) if "@" not in name else []
        zone = dkim.get("SigningHostedZone") or "dkim.amazonses.com"
        records = ", ".join(f"{token}._domainkey.{name} CNAME {token}.{zone}" for token in tokens)
        yield f"{name} is not verified" + (f": add these DNS records: {records}" if records else "")
    elif "@" not in name and dkim.get("Status") != "SUCCESS":
        yield f"Mails from {name} are not signed with DKIM (status {dkim.get('Status')}), and many are taken for spam"


def _problems_of_account(account: dict[str, Any], variables: dict[str, str]) -> Iterator[str]:
    if not account.get("ProductionAccessEnabled"):
        yield (
            "SES is in its sandbox: it sends 200 mails a day, and only to verified addresses. Request production access"
        )
    if not account.get("SendingEnabled", True):
        yield "SES has paused sending for this account: look for a message of AWS"
    elif account.get("EnforcementStatus", "HEALTHY") != "HEALTHY":
        yield f"The sending status of this account is {account['EnforcementStatus']}: look for a message of AWS"
    quota = account.get("SendQuota", {}).get("Max24HourSend", -1)  # -1: unlimited
    ceiling = int(variables.get("SIGNET_EMAILS_PER_DAY") or Settings.emails_per_day)
    if account.get("ProductionAccessEnabled") and 0 <= quota < ceiling:
        yield f"SES sends {quota:.0f} mails a day, fewer than SIGNET_EMAILS_PER_DAY ({ceiling}) allows"


def _problems_of_set(ses: Any, name: str) -> Iterator[str]:
    if not name:
        yield "No configuration set is used, so returned mails are not noticed: deploy with `signet deploy`"
        return
    try:
        options = ses.get_configuration_set(ConfigurationSetName=name).get("SuppressionOptions", {})
    except ses.exceptions.NotFoundException:
        yield f"There is no configuration set {name}: no mail can be sent"
        return
    if missing := _REASONS - set(options.get("SuppressedReasons", ())):
        yield f"{name} does not suppress addresses after {' and '.join(sorted(missing))}"
