"""`signet client add-certificate|list-certificates|remove-certificate`: those that a client has signed itself."""

from pathlib import Path

import click

from chalicelib import events
from chalicelib.clients.certificates import add_certificate, certificates_of, remove_certificate
from infra.operator.clients import find_client
from infra.operator.commands import CommandError, confirm, example, json_option, open_store, record_event, yes_option
from infra.operator.doctor.stage import Inside
from infra.operator.option_names import naming_options
from infra.operator.terminal import print_json
from infra.operator.truststore import Truststore
from infra.operator.truststore_commands import certificate_document, find_registered, print_certificates, read_text


@click.command("add-certificate", epilog=example("client add-certificate bank client.pem"))
@click.argument("client_id")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def add_client_certificate(stage: str, /, client_id: str, file: Path, as_json: bool) -> None:
    """Register the certificate in FILE (PEM), which the client has signed itself, beside its other ones.

    In AWS, the gateway trusts it from then on. The client authenticates by self_signed_tls_client_auth.
    """
    pem = read_text(file)
    with open_store(stage) as store, naming_options(updating=True):
        changed, certificate = add_certificate(store, find_client(store, client_id), pem)
        detail = f"certificate added: {certificate.thumbprint}"
        record_event(store, events.CLIENT_CHANGED, client=changed, detail=detail)
        if Inside(store).in_aws:  # last: repeating the command completes it
            Truststore.of_stage(stage).add(certificate)
    if as_json:
        print_json(certificate_document(certificate))
        return
    click.echo(f"{client_id} can use the certificate {certificate.thumbprint} of {certificate.subject}.")
    if len(changed.tls_client_certificates or ()) > 1:
        click.echo("Its other certificates are still accepted. Remove one: signet client remove-certificate")


@click.command("list-certificates", epilog=example("client list-certificates bank"))
@click.argument("client_id")
@json_option
@click.pass_obj
def list_certificates(stage: str, /, client_id: str, as_json: bool) -> None:
    """List the certificates of a client that it has signed itself."""
    with open_store(stage) as store:
        certificates = certificates_of(find_client(store, client_id))
    print_certificates(certificates, as_json, "The client has no certificate.")


@click.command("remove-certificate", epilog=example("client remove-certificate bank THUMBPRINT --yes"))
@click.argument("client_id")
@click.argument("thumbprint")
@yes_option
@json_option
@click.pass_obj
def remove_client_certificate(stage: str, /, client_id: str, thumbprint: str, yes: bool, as_json: bool) -> None:
    """Reject a certificate of a client, within a minute. In AWS, the gateway no longer trusts it."""
    with open_store(stage) as store:
        client = find_client(store, client_id)
        if thumbprint not in (each.thumbprint for each in certificates_of(client)):
            raise CommandError(f"{client_id} has no certificate with the thumbprint {thumbprint}.")
        confirm(f"Reject this certificate of {client.client_name} ({client_id})?", yes)
        changed, certificate = remove_certificate(store, client, thumbprint)
        detail = f"certificate removed: {certificate.thumbprint}"
        record_event(store, events.CLIENT_CHANGED, client=changed, detail=detail)
        if Inside(store).in_aws and not find_registered(store, thumbprint):
            _distrust(stage, thumbprint)
    if as_json:
        print_json(certificate_document(certificate))
    else:
        click.echo(f"Within a minute, {client_id} can no longer use {certificate.thumbprint}.")


def _distrust(stage: str, thumbprint: str) -> None:
    """Remove a certificate from the truststore, unless it is the last one. No client is registered with it."""
    try:
        Truststore.of_stage(stage).remove(thumbprint)
    except CommandError as error:
        click.echo(f"The truststore keeps it: {error.message}", err=True)
