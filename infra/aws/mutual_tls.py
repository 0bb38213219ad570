"""The domain for mutual TLS of a stage, an option of `deploy`: its truststore must be there before it."""

from collections.abc import Mapping

from infra.aws.deployment import Deployment
from infra.operator.commands import CommandError
from infra.operator.truststore import Truststore

# Parameters of the template that are not the operator's.
COMPUTED = {"MtlsTruststoreUri", "MtlsTruststoreVersion"}


def check_mutual_tls(deployment: Deployment, server: Mapping[str, str]) -> None:
    """Check the parameters of the domain, and that its truststore has a certificate. Raises CommandError.

    `server`: the parameters of the server.
    """
    domain = server["MtlsDomain"]
    if bool(domain) != bool(server["MtlsCertificateArn"]):
        raise CommandError("Set both MtlsDomain and MtlsCertificateArn, or neither.")
    if not domain:
        return
    if not server["Issuer"] and not server["DomainName"]:
        raise CommandError("MtlsDomain requires your own domain for everything else: set DomainName, or --issuer.")
    stored = Truststore.of_stage(deployment.stage, deployment.session).read()
    if not stored.certificates:
        command = f"signet truststore add authority.pem --stage {deployment.stage}"
        raise CommandError(f"{domain} needs a certificate to trust. Run: {command}")


def truststore_parameters(deployment: Deployment, server: Mapping[str, str]) -> dict[str, str]:
    """Return the values of COMPUTED: the truststore as it is now, so that no deployment goes back to an older one.

    `server`: the other parameters of the server.
    """
    domain = server["MtlsDomain"]
    if not domain:
        return dict.fromkeys(COMPUTED, "")
    store = Truststore(deployment.session, deployment.data.outputs()["CodeBucket"], domain)
    return {"MtlsTruststoreUri": store.uri, "MtlsTruststoreVersion": store.read().version}
