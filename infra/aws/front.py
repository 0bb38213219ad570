"""The front of a stage: a CloudFront distribution with a firewall, and the secret that proves it to the server.

The order of the steps keeps the server reachable. It accepts a new secret before the front sends it, and the old one
until every edge location has the new one. A server that is already in use requires a secret only when its address leads
to the front, and the front is removed only when its address leads elsewhere.
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click
import yaml
from botocore.exceptions import ClientError

from chalicelib.http.proxy import secret_hash
from infra.aws.deployment import Deployment
from infra.operator.commands import CommandError
from infra.operator.doctor.front import NAME_HEADER, sent_secret
from infra.operator.doctor.visit import Unreachable, ask

TEMPLATE = Path(__file__).with_name("front.yaml")
CLOUDFRONT, NONE = CHOICES = ("cloudfront", "none")
ADDRESS_HEADER = "X-Signet-Caller-Address"
# Parameters of the templates that are not the operator's.
COMPUTED = {"Stage", "PublicDomain", "OriginDomain", "OriginHost", "OriginSecret"}
_CERTIFICATE = "FrontCertificateArn"
_DENIED = ("AccessDenied", "AccessDeniedException")


def check_front(deployment: Deployment, server: Mapping[str, str]) -> None:
    """Determine whether the stage has a front, by default as before, and check its parameters.

    `server`: the parameters of the server. Raises CommandError.
    """
    if deployment.front is None:
        deployment.front = CLOUDFRONT if exists(deployment) else None
    own = yaml.safe_load(TEMPLATE.read_text())["Parameters"].keys() - COMPUTED
    if deployment.front != CLOUDFRONT:
        unused = sorted(own & deployment.overrides.keys()) + ["--rotate-front-secret"] * deployment.rotate_secret
        if unused:
            raise CommandError(f"{unused[0]} requires --front {CLOUDFRONT}.")
        if deployment.front == NONE and public_host(server) not in ("", server["DomainName"]) and exists(deployment):
            reason = f"{public_host(server)} would lead nowhere: give it to the API with DomainName and CertificateArn"
            raise CommandError(f"Without its front, {reason}.")
        return
    host = public_host(server)
    if not host:
        raise CommandError("A front needs your own domain: set --issuer https://login.example.com, or DomainName.")
    if host != server["Issuer"].removeprefix("https://") and server["Issuer"]:
        raise CommandError(f"A front serves a whole host over https: {server['Issuer']} must have no port and no path.")
    if _CERTIFICATE not in {**deployment.front_stack.parameters(), **deployment.overrides}:
        raise CommandError(f"Set {_CERTIFICATE}, the certificate of {host} in us-east-1.")


def exists(deployment: Deployment) -> bool:
    """Return whether the stage has a front, as far as the credentials may look into its region."""
    try:
        return deployment.front_stack.status() is not None
    except ClientError as error:
        if error.response["Error"]["Code"] in _DENIED:
            return False
        raise


def issuer_of(server: Mapping[str, str]) -> str:
    """Return the issuer, empty if it is the API's own address. `server` may lack parameters."""
    domain = server.get("DomainName", "")
    return server.get("Issuer") or (f"https://{domain}" if domain else "")


def public_host(server: Mapping[str, str]) -> str:
    """Return the host of the issuer, empty if it is the API's own."""
    return (urlsplit(server["Issuer"]).hostname if server["Issuer"] else "") or server["DomainName"]


# ---- the steps


def choose_secret(deployment: Deployment) -> None:
    """Choose the secret of the front, and let the server accept it in addition to the current one."""
    if deployment.front == NONE:
        deployment.overrides |= {"CallerAddressHeader": "", "ProxySecretHash": ""}
    if deployment.front != CLOUDFRONT:
        return
    current = _current_secret(deployment)
    deployment.front_secret = secrets.token_urlsafe(32) if deployment.rotate_secret or not current else current
    # A server that is in use without a front must not reject its users, who do not come through the front yet.
    if deployment.api.parameters().get("ProxySecretHash") or not deployment.api.outputs():
        _accept(deployment, current, deployment.front_secret)


def deploy_front(deployment: Deployment) -> None:
    """Deploy the distribution and its firewall, or delete them."""
    stack = deployment.front_stack
    if deployment.front == NONE and exists(deployment):
        if leads_to_front(deployment) is not False:
            click.echo("The front is kept until the DNS record leads elsewhere. Then run the same command again.")
            return
        stack.delete()
        click.echo("The front was deleted.")
    if deployment.front != CLOUDFRONT:
        return
    required = {"Stage": deployment.stage, "OriginSecret": deployment.front_secret, **_origin(deployment)}
    parameters = deployment.parameters(TEMPLATE, stack, required)
    # JSON has no anchors and merge keys, which CloudFormation does not know.
    deployment.change(stack, json.dumps(yaml.safe_load(TEMPLATE.read_text()), indent=1), parameters)


def settle(deployment: Deployment) -> bool:
    """Return whether the server must be deployed again, to require the secret that the front now sends, and no other.

    Prints what to do when its address does not lead to the front yet.
    """
    if deployment.front != CLOUDFRONT:
        return False
    accepted = deployment.api.parameters().get("ProxySecretHash", "")
    if accepted == secret_hash(deployment.front_secret):
        return False
    if not accepted and not leads_to_front(deployment):
        click.echo("\nThe server does not require the front yet, because its address does not lead there.")
        click.echo("Change the DNS record, wait until the old one has expired everywhere, and run the command again.")
        return False
    _accept(deployment, deployment.front_secret)
    return True


def dns_records(deployment: Deployment) -> dict[str, str]:
    """Return the target of each host that the operator must have a DNS record for."""
    outputs, records = deployment.outputs, {}
    if target := outputs.get("DomainTarget"):
        records[outputs["Address"].removeprefix("https://")] = target
    if target := outputs.get("MtlsDomainTarget"):
        records[deployment.api.parameters()["MtlsDomain"]] = target
    if deployment.front == CLOUDFRONT:
        records[outputs["Issuer"].removeprefix("https://")] = deployment.front_stack.outputs()["FrontTarget"]
    return records


def leads_to_front(deployment: Deployment) -> bool | None:
    """Return whether the issuer's address leads to this front, or None when there is no answer."""
    try:
        answer = ask("GET", deployment.outputs["Issuer"] + "/healthz")
    except Unreachable:
        return None
    return answer.header(NAME_HEADER) == deployment.front_stack.name


def _origin(deployment: Deployment) -> dict[str, str]:
    """Return the parameters for the address that the front connects to, and the host that it asks for."""
    public, address = (urlsplit(deployment.outputs[name]).hostname or "" for name in ("Issuer", "Address"))
    if address == public:  # CloudFront finds the API by its own name, which has no certificate
        return {"PublicDomain": public, "OriginDomain": deployment.outputs["DomainTarget"], "OriginHost": "public"}
    return {"PublicDomain": public, "OriginDomain": address, "OriginHost": "own"}


def _current_secret(deployment: Deployment) -> str:
    """Return the secret that the front sends, empty if there is no front."""
    if not exists(deployment):
        return ""
    distributions = deployment.front_stack.resources("AWS::CloudFront::Distribution")
    return sent_secret(deployment.session.client("cloudfront"), distributions[0]) if distributions else ""


def _accept(deployment: Deployment, *accepted: str) -> None:
    hashes = dict.fromkeys(secret_hash(secret) for secret in accepted if secret)
    deployment.overrides |= {"CallerAddressHeader": ADDRESS_HEADER, "ProxySecretHash": " ".join(hashes)}
