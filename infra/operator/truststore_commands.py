"""`signet truststore …`: the authorities whose certificates are accepted at the domain for mutual TLS."""

from pathlib import Path
from typing import Any

import click

from chalicelib.clients.certificates import certificates_of
from chalicelib.keys.certificates import problem_with_authority, split_pem
from chalicelib.protocol.client import Client
from chalicelib.protocol.mutual_tls import Certificate
from chalicelib.storage.store import Store
from infra.operator.commands import (
    CommandError,
    confirm,
    example,
    json_option,
    open_store,
    require_aws_stage,
    yes_option,
)
from infra.operator.terminal import print_json, print_list, time_text
from infra.operator.truststore import Truststore

MAX_FILE = 1_000_000  # bytes


@click.group()
def truststore() -> None:
    """Choose the authorities whose certificates clients can use (mutual TLS)."""


@truststore.command("add", epilog=example("truststore add authority.pem --stage prod"))
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def add_authority(stage: str, /, file: Path, as_json: bool) -> None:
    """Trust the authorities in FILE (PEM): clients with their certificates reach the server.

    Which client a certificate belongs to is registered with `client create --tls-client-auth-subject-dn`.
    """
    certificates = read_authorities(file)
    store = Truststore.of_stage(require_aws_stage(stage))
    added = store.add(*certificates)
    if as_json:
        print_json([certificate_document(each) for each in certificates])
        return
    for each in certificates:
        click.echo(f"{each.thumbprint}  {each.subject}")
    click.echo(f"\nThe truststore {'has them now' if added else 'had them already'}: {store.uri}")
    if not store.domain:
        click.echo(f"Next: signet deploy --stage {stage} --param MtlsDomain=… --param MtlsCertificateArn=…")


@truststore.command("list", epilog=example("truststore list --stage prod"))
@json_option
@click.pass_obj
def list_truststore(stage: str, /, as_json: bool) -> None:
    """List the certificates that the gateway trusts: authorities, and those that clients have signed themselves."""
    stored = Truststore.of_stage(require_aws_stage(stage)).read().certificates.values()
    print_certificates(list(stored), as_json, "No certificate is trusted.")


@truststore.command("sync", epilog=example("truststore sync --stage prod"))
@json_option
@click.pass_obj
def sync_truststore(stage: str, /, as_json: bool) -> None:
    """Trust the certificates that are registered for clients, after an import of these clients."""
    store = Truststore.of_stage(require_aws_stage(stage))
    trusted = store.read().certificates
    with open_store(stage) as records:
        registered = [each for client in records.clients.scan() for each in certificates_of(client)]
    missing = {each.thumbprint: each for each in registered if each.thumbprint not in trusted}
    store.add(*missing.values())
    print_certificates(list(missing.values()), as_json, "The truststore has all of them.")


@truststore.command("remove", epilog=example("truststore remove THUMBPRINT --stage prod"))
@click.argument("thumbprint")
@yes_option
@json_option
@click.pass_obj
def remove_from_truststore(stage: str, /, thumbprint: str, yes: bool, as_json: bool) -> None:
    """Trust a certificate no longer. The gateway then rejects what it has signed."""
    store = Truststore.of_stage(require_aws_stage(stage))
    certificate = store.read().certificates.get(thumbprint)
    if certificate is None:
        raise CommandError(f"The truststore has no certificate with the thumbprint {thumbprint}.")
    with open_store(stage) as records:
        client = find_registered(records, thumbprint)
    if client:
        command = f"signet client remove-certificate {client.client_id} {thumbprint}"
        raise CommandError(f"It is registered for the client {client.client_id}. Run: {command}")
    confirm(f"Reject all certificates of {certificate.subject}?", yes)
    store.remove(thumbprint)
    if as_json:
        print_json(certificate_document(certificate))
    else:
        click.echo(f"Removed {certificate.subject}.")


def find_registered(store: Store, thumbprint: str) -> Client | None:
    """Return a client that is registered with a certificate, or None."""
    for client in store.clients.scan():
        if thumbprint in (each.thumbprint for each in certificates_of(client)):
            return client
    return None


def read_authorities(file: Path) -> list[Certificate]:
    """Return the certificates of authorities in a file. Raises CommandError."""
    try:
        certificates = split_pem(read_text(file))
    except ValueError as error:
        raise CommandError(f"{file} cannot be read: it must have certificates in PEM.") from error
    if not certificates:
        raise CommandError(f"{file} has no certificate.")
    for each in certificates:
        if problem := problem_with_authority(each.der):
            raise CommandError(f"{each.subject} cannot be trusted: {problem}.")
    return certificates


def read_text(file: Path) -> str:
    """Return the content of a small file. Raises CommandError."""
    try:
        with open(file, "rb") as opened:
            content = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise CommandError(f"{file} cannot be read ({error.strerror}).") from error
    if len(content) > MAX_FILE:
        raise CommandError(f"{file} has more than {MAX_FILE} bytes.")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not PEM.") from error


def certificate_document(certificate: Certificate) -> dict[str, Any]:
    """Return the members of a certificate as the commands show them."""
    return {
        "thumbprint": certificate.thumbprint,
        "subject": certificate.subject,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
    }


def print_certificates(certificates: list[Certificate], as_json: bool, none: str) -> None:
    """Print certificates, those that end first at the top."""
    listed = sorted(certificates, key=lambda each: each.not_after)
    head = ("THUMBPRINT", "SUBJECT", "VALID UNTIL")
    print_list(listed, as_json, certificate_document, head, _row, none)


def _row(certificate: Certificate) -> tuple[str, ...]:
    return certificate.thumbprint, certificate.subject, time_text(certificate.not_after)
