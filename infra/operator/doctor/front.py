"""The check of a stage's front: the CloudFront distribution that `deploy --front cloudfront` creates."""

from typing import Any

from chalicelib.http.proxy import SECRET_HEADER, secret_hash
from infra.operator.doctor.findings import Verdict, judge, skipped
from infra.operator.doctor.stage import Inside

NAME_HEADER = "X-Signet-Front"


def front(inside: Inside) -> Verdict:
    """Check that the distribution is deployed with a firewall, and that the server accepts only its secret."""
    if inside.function is None:
        return skipped("The function is missing.")
    hashes, cloudfront = inside.variables.get("SIGNET_PROXY_SECRET_HASH", "").split(), inside.aws("cloudfront")
    distribution = _distribution(cloudfront, f"Signet {inside.stage}")
    if distribution is None:
        own = "The server requires the secret of your own proxy." if hashes else "This stage has no front."
        return skipped(own)
    problems = []
    if distribution["Status"] != "Deployed" or not distribution["Enabled"]:
        problems.append("The distribution is not deployed everywhere or not enabled")
    if not distribution["WebACLId"]:
        problems.append("It has no firewall")
    sent = secret_hash(sent_secret(cloudfront, distribution["Id"]))
    if not hashes:
        problems.append("The server does not require it, so that callers can go past it")
    elif sent not in hashes:
        problems.append("The server does not accept its secret, so that every request gets status 403")
    elif len(hashes) > 1:
        problems.append("The server still accepts the secret before the last rotation")
    success = f"{distribution['DomainName']} is deployed, and the server requires its secret."
    return judge(problems, success, f"Run `signet deploy --front cloudfront --stage {inside.stage}` again.")


def sent_secret(cloudfront: Any, distribution: str) -> str:
    """Return the secret that a distribution sends to its origin, empty if it sends none."""
    config = cloudfront.get_distribution_config(Id=distribution)["DistributionConfig"]
    for origin in config["Origins"]["Items"]:
        for header in origin.get("CustomHeaders", {}).get("Items", ()):
            if header["HeaderName"].lower() == SECRET_HEADER:
                return str(header["HeaderValue"])
    return ""


def _distribution(cloudfront: Any, comment: str) -> Any:
    for page in cloudfront.get_paginator("list_distributions").paginate():
        for distribution in page["DistributionList"].get("Items", ()):
            if distribution["Comment"] == comment:
                return distribution
    return None
