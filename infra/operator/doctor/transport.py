"""The checks of the transport: TLS, header fields, the clock."""

import ssl
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from chalicelib.protocol.durations import DAY
from infra.operator.doctor.findings import Verdict, judge, skipped
from infra.operator.doctor.visit import OPENID, REDEPLOY, Unreachable, Visit, ask

CLOCK_TOLERANCE = 5  # seconds
CERTIFICATE_DAYS = 14


def tls(visit: Visit) -> Verdict:
    """Check that the server uses https, and how long its certificate is valid."""
    parts = urlsplit(visit.url)
    if parts.scheme == "http":
        if visit.is_local:
            return skipped("Plain http, on this machine only. A deployed server uses https.")
        return Verdict(False, "Passwords and tokens are sent unencrypted.", "Serve it over https.")
    end = ssl.cert_time_to_seconds((visit.discovery.certificate or {})["notAfter"])
    days = int((end - time.time()) // DAY)
    fix = "Renew it. ACM renews a certificate itself as long as its validation record is in the DNS."
    problems = [f"The certificate expires in {days} days"] if days < CERTIFICATE_DAYS else []
    return judge(problems, f"https, with a certificate that is valid for {days} more days.", fix)


def plain_http(visit: Visit) -> Verdict:
    """Check that port 80 serves nothing but redirects."""
    parts = urlsplit(visit.url)
    if parts.scheme == "http" or parts.port not in (None, 443):
        return skipped("Only checked when https is on its default port.")
    try:
        answer = ask("GET", f"http://{parts.hostname}{parts.path}{OPENID}")
    except Unreachable:
        return Verdict(True, "Plain http is not served.")
    if answer.status >= 400 or answer.header("location").startswith(f"https://{parts.hostname}"):
        return Verdict(True, f"Plain http is rejected or redirected to https (status {answer.status}).")
    return Verdict(False, f"Plain http is served (status {answer.status}).", "Redirect port 80 to https, or close it.")


def headers(visit: Visit) -> Verdict:
    """Check the security headers of a JSON response and of a page."""
    page, problems = visit.authorize_unknown_client(), []
    for what, answer in (("metadata", visit.discovery), ("page", page)):
        required = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "", "Content-Security-Policy": ""}
        if visit.url.startswith("https://"):
            required["Strict-Transport-Security"] = "max-age="
        problems += [
            f"the {what} lacks {name}"
            for name, part in required.items()
            if not answer.header(name) or part not in answer.header(name)
        ]
    policy = page.header("Content-Security-Policy")
    if "frame-ancestors 'none'" not in policy or "unsafe-inline" in policy:
        problems.append("the page's Content-Security-Policy allows framing or inline scripts")
    if "no-store" not in page.header("Cache-Control"):
        problems.append("caches may store the page")
    return judge(problems, "Metadata and pages have the security headers.", REDEPLOY)


def clock(visit: Visit) -> Verdict:
    """Check that the server's clock agrees with this machine's."""
    try:
        server_time = parsedate_to_datetime(visit.discovery.header("Date")).timestamp()
    except ValueError:
        return skipped("The response has no Date header.")
    skew = round(server_time - visit.started_at)
    problems = [f"The server's clock is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} this machine's"]
    fix = "Synchronize this machine's clock by NTP (AWS does so itself): short-lived tokens need synchronized clocks."
    return judge(problems if abs(skew) > CLOCK_TOLERANCE else [], "The server's clock and this machine's agree.", fix)
