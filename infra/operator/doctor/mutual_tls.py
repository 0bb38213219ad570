"""The checks of mutual TLS: the clients that use it, and the truststore of the gateway."""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace

from botocore.exceptions import ClientError

from chalicelib.clients.certificates import certificates_of
from chalicelib.keys.certificates import problem_with_authority
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.mutual_tls import METHODS, SELF_SIGNED, Certificate
from infra.operator.doctor.findings import Finding, Verdict, judge, skipped
from infra.operator.doctor.stage import Inside
from infra.operator.terminal import time_text
from infra.operator.truststore import Truststore

WARNING = 30 * DAY  # before a certificate ends


def inspect(inside: Inside) -> Iterator[Finding]:
    """Yield the finding about the clients that use mutual TLS; none without such a client."""
    verdict = clients(inside)
    if verdict.ok is not None:
        yield Finding("mutual TLS", verdict.ok, verdict.detail, verdict.fix)


def clients(inside: Inside) -> Verdict:
    """Check that the clients that use mutual TLS can, and that their registered certificates last."""
    using = [client for client in inside.store.clients.scan() if client.disabled_at is None and _uses(client)]
    if not using:
        return skipped("No client uses mutual TLS.")
    now, problems = inside.store.now(), []
    for client in using:
        certificates = certificates_of(client)
        if SELF_SIGNED in client.auth_methods and not certificates:
            problems.append(f"{client.client_id} authenticates by {SELF_SIGNED} and has no certificate")
        problems += [f"{client.client_id}: {text}" for text in _endings(certificates, now)]
    if inside.in_aws and inside.function is not None and not inside.variables.get("SIGNET_MTLS_DOMAIN"):
        names = ", ".join(client.client_id for client in using)
        problems.append(f"The server has no domain for mutual TLS, which is needed by {names}")
    success = f"{len(using)} clients use mutual TLS; no registered certificate ends within 30 days."
    return judge(problems, success, "See docs/mtls.md; `signet client add-certificate` adds the next certificate.")


def truststore(inside: Inside) -> Verdict:
    """Check that the gateway demands certificates at its domain, and trusts those that it should, and no other."""
    domain = inside.variables.get("SIGNET_MTLS_DOMAIN")
    if not domain:
        return skipped("This stage has no domain for mutual TLS.")
    fix = f"Run `signet deploy --stage {inside.stage}` again; for certificates of clients, see docs/mtls.md."
    try:
        described = inside.aws("apigatewayv2").get_domain_name(DomainName=domain)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return Verdict(False, f"The gateway has no domain {domain}.", fix)
    used = described.get("MutualTlsAuthentication") or {}
    if not used.get("TruststoreUri"):
        return Verdict(
            False, f"The gateway demands no certificate at {domain}, so that no request is accepted there.", fix
        )
    bucket = used["TruststoreUri"].removeprefix("s3://").partition("/")[0]
    stored = Truststore(SimpleNamespace(client=inside.aws), bucket, domain).read()
    problems = [f"API Gateway warns: {warning}" for warning in used.get("TruststoreWarnings", ())]
    if used.get("TruststoreVersion") != stored.version:
        problems.append("The gateway does not use the newest version of the truststore")
    trusted = stored.certificates
    problems += [f"The truststore: {text}" for text in _endings(trusted.values(), inside.store.now())]
    registered = {each.thumbprint: client for client in inside.store.clients.scan() for each in certificates_of(client)}
    for thumbprint, client in registered.items():
        if thumbprint not in trusted:
            problems.append(f"{client.client_id} is registered with {thumbprint}, which the gateway does not trust")
    for thumbprint, certificate in trusted.items():
        if thumbprint not in registered and problem_with_authority(certificate.der):
            problems.append(f"The truststore has {thumbprint}, which no client is registered with")
    return judge(problems, f"The gateway demands certificates at {domain}, and trusts {len(trusted)}.", fix)


def _uses(client: Client) -> bool:
    bound = bool(client.tls_client_certificate_bound_access_tokens)
    return bound or not set(METHODS).isdisjoint(client.auth_methods)


def _endings(certificates: Iterable[Certificate], now: int) -> Iterator[str]:
    """Yield which certificates have ended, or will within 30 days."""
    for each in certificates:
        if each.not_after < now + WARNING:
            ends = "has expired" if each.not_after < now else "ends"
            yield f"the certificate {each.thumbprint} of {each.subject} {ends} at {time_text(each.not_after)}"
