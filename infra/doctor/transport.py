"""The doctor's look at what carries every answer: TLS, header fields, the clock."""

import ssl
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from infra.doctor.findings import Verdict, judge, skipped
from infra.doctor.visit import OPENID, REDEPLOY, Unreachable, Visit, ask

CLOCK_TOLERANCE = 5
CERTIFICATE_DAYS = 14


def tls(visit: Visit) -> Verdict:
    """Whether all is encrypted, and how long the certificate is good."""
    parts = urlsplit(visit.url)
    if parts.scheme == "http":
        if visit.is_here:
            return skipped("Plain http, on this machine only: nothing leaves it. A deployed server has https.")
        return Verdict(False, "Passwords and tokens travel in clear.", "Put it behind https.")
    end = ssl.cert_time_to_seconds((visit.discovery.certificate or {})["notAfter"])
    days = int((end - time.time()) // 86400)
    fix = "Renew it: a certificate of ACM renews itself while its DNS record of validation stands."
    problems = [f"The certificate ends in {days} days"] if days < CERTIFICATE_DAYS else []
    return judge(problems, f"https, with a certificate that is good for {days} more days.", fix)


def plain_http(visit: Visit) -> Verdict:
    """Whether port 80 gives anything away."""
    parts = urlsplit(visit.url)
    if parts.scheme == "http" or parts.port not in (None, 443):
        return skipped("Only asked where https is on its usual port.")
    try:
        answer = ask("GET", f"http://{parts.hostname}{parts.path}{OPENID}")
    except Unreachable:
        return Verdict(True, "Plain http is not answered.")
    if answer.status >= 400 or answer.header("location").startswith(f"https://{parts.hostname}"):
        return Verdict(True, f"Plain http is refused or sent to https (status {answer.status}).")
    return Verdict(False, f"Plain http is served (status {answer.status}).", "Redirect port 80 to https, or close it.")


def headers(visit: Visit) -> Verdict:
    """The security headers of a JSON answer and of a page."""
    page, problems = visit.refused_request(), []
    for what, answer in (("metadata", visit.discovery), ("page", page)):
        wanted = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "", "Content-Security-Policy": ""}
        if visit.url.startswith("https://"):
            wanted["Strict-Transport-Security"] = "max-age="
        problems += [
            f"the {what} lacks {name}"
            for name, part in wanted.items()
            if not answer.header(name) or part not in answer.header(name)
        ]
    policy = page.header("Content-Security-Policy")
    if "frame-ancestors 'none'" not in policy or "unsafe-inline" in policy:
        problems.append("the page's Content-Security-Policy lets it be framed, or runs inline scripts")
    if "no-store" not in page.header("Cache-Control"):
        problems.append("the page may be stored by a cache")
    return judge(problems, "The security headers are there, on metadata and pages.", REDEPLOY)


def clock(visit: Visit) -> Verdict:
    """Whether two clocks agree."""
    try:
        theirs = parsedate_to_datetime(visit.discovery.header("Date")).timestamp()
    except ValueError:
        return skipped("The answer has no Date header.")
    skew = round(theirs - visit.asked_at)
    problems = [f"The server's clock is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} this machine's"]
    fix = "Let NTP set this machine's clock (AWS keeps its own): tokens that live minutes need clocks that agree."
    return judge(problems if abs(skew) > CLOCK_TOLERANCE else [], "The server's clock and this machine's agree.", fix)
