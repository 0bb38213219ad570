"""The front of a stage: its template, and the order in which `deploy` changes server and distribution."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

import app
from chalicelib import pages
from chalicelib.http.proxy import SECRET_HEADER, secret_hash
from chalicelib.pages.stylesheet import style_sheet
from infra.aws import front
from infra.aws.deployment import Deployment
from infra.aws.front import ADDRESS_HEADER, COMPUTED, TEMPLATE
from infra.aws.package import API
from infra.operator.commands import CommandError
from infra.operator.doctor import front as doctor_front
from infra.operator.doctor.stage import Inside
from infra.operator.doctor.visit import Answer, Unreachable
from tests.support.browser import Browser
from tests.support.site import Site

_CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"

# The managed policies of CloudFront (developer guide, "Use managed cache policies" and "… origin request policies").
DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
ALL_VIEWER, ALL_VIEWER_EXCEPT_HOST = "216adef6-5c7f-47e4-b989-5492eafa07d3", "b689b0a8-53d0-40ab-baf2-68738e2966ac"


# ---- the template


@pytest.fixture
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())
    return loaded


@pytest.fixture
def distribution(template: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = template["Resources"]["Distribution"]["Properties"]["DistributionConfig"]
    return config


def behaviors(distribution: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the cache behaviors by path; that of all other paths is `*`."""
    return {"*": distribution["DefaultCacheBehavior"]} | {
        behavior["PathPattern"]: behavior for behavior in distribution["CacheBehaviors"]
    }


def test_cfn_lint_reports_nothing(template: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "front.json"
    file.write_text(json.dumps(template, indent=1))
    done = subprocess.run([sys.executable, "-c", _CFN_LINT, str(file)], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
    assert len(file.read_bytes()) < 51200  # CloudFormation's limit


def test_parameters_are_described_and_the_secret_is_not_shown(template: dict[str, Any]) -> None:
    parameters = template["Parameters"]
    assert parameters.keys() >= COMPUTED
    assert parameters.keys() - COMPUTED == {"FrontCertificateArn", "RequestsPerFiveMinutes"}
    # An option of `deploy` sets a parameter of each template that has it.
    assert not (parameters.keys() - COMPUTED) & yaml.safe_load(API.read_text())["Parameters"].keys()
    assert all(parameter["Description"].endswith(".") for parameter in parameters.values())
    assert parameters["OriginSecret"]["NoEcho"] is True


def test_exactly_the_answers_that_are_public_for_caches_are_cached(
    site: Site, browser: Browser, distribution: dict[str, Any]
) -> None:
    policies = {path: behavior["CachePolicyId"] for path, behavior in behaviors(distribution).items()}
    assert policies["*"] == DISABLED  # and no request is answered with the answer to another (request collapsing)
    cached = {path for path, policy in policies.items() if policy != DISABLED}
    versions = {"/style.css": style_sheet(site.settings)[1], "/script.js": pages.SCRIPT_VERSION}
    public = set()
    for route in (*app.JSON_ROUTES, *app.PAGE_ROUTES):
        if route.method == "GET":
            answer = browser.get(route.path, v=versions.get(route.path, "1"))
            if (answer.header("cache-control") or "").startswith("public"):
                public.add(route.path)
                assert not [name for name, _ in answer.headers if name.lower() == "set-cookie"]
    assert cached == public
    assert versions.keys() < cached
    assert {json.dumps(policies[path]) for path in cached} == {'{"Ref": "StaticAnswers"}'}


def test_caching_needs_cache_control_and_ignores_cookies_and_headers(template: dict[str, Any]) -> None:
    policy = template["Resources"]["StaticAnswers"]["Properties"]["CachePolicyConfig"]
    key = policy["ParametersInCacheKeyAndForwardedToOrigin"]
    assert (policy["MinTTL"], policy["DefaultTTL"]) == (0, 0)
    assert key["CookiesConfig"] == {"CookieBehavior": "none"}
    assert key["HeadersConfig"] == {"HeaderBehavior": "none"}
    assert key["QueryStringsConfig"] == {"QueryStringBehavior": "whitelist", "QueryStrings": ["v"]}


def test_no_error_is_cached(distribution: dict[str, Any]) -> None:
    """CloudFront ignores `no-store` of most errors; these are all statuses that it caches."""
    kept = {response["ErrorCode"]: response["ErrorCachingMinTTL"] for response in distribution["CustomErrorResponses"]}
    assert kept == dict.fromkeys((400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504), 0)


def test_every_request_has_the_secret_and_the_address_and_all_of_the_callers_headers(
    distribution: dict[str, Any],
) -> None:
    (origin,) = distribution["Origins"]
    assert origin["OriginCustomHeaders"] == [
        {"HeaderName": "X-Signet-Proxy-Secret", "HeaderValue": {"Ref": "OriginSecret"}}
    ]
    assert origin["OriginCustomHeaders"][0]["HeaderName"].lower() == SECRET_HEADER
    for path, behavior in behaviors(distribution).items():
        assert behavior["OriginRequestPolicyId"] == {
            "Fn::If": ["AsksForPublicHost", ALL_VIEWER, ALL_VIEWER_EXCEPT_HOST]
        }, path
        (function,) = behavior["FunctionAssociations"]
        assert function["EventType"] == "viewer-request"
        assert function["FunctionARN"] == {"Fn::GetAtt": ["CallerAddress", "FunctionMetadata.FunctionARN"]}
        assert behavior["ViewerProtocolPolicy"] == "https-only"
        assert {"GET", "POST", "OPTIONS"} <= set(behavior["AllowedMethods"])


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is missing")
def test_function_replaces_an_address_that_the_caller_has_sent(template: dict[str, Any]) -> None:
    code = template["Resources"]["CallerAddress"]["Properties"]["FunctionCode"]
    forged = {"value": "198.51.100.66", "multiValue": [{"value": "198.51.100.66"}, {"value": "198.51.100.67"}]}
    headers = {ADDRESS_HEADER.lower(): forged, "host": {"value": "login.example.com"}}
    event = {"viewer": {"ip": "203.0.113.9"}, "request": {"uri": "/", "headers": headers}}
    script = f"{code}\nconsole.log(JSON.stringify(handler({json.dumps(event)})))"
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "uri": "/",
        "headers": {ADDRESS_HEADER.lower(): {"value": "203.0.113.9"}, "host": {"value": "login.example.com"}},
    }


def test_firewall_counts_by_address_and_keeps_no_sample_of_a_request(template: dict[str, Any]) -> None:
    firewall = template["Resources"]["Firewall"]["Properties"]
    (rule,) = firewall["Rules"]
    rate = rule["Statement"]["RateBasedStatement"]
    assert (rate["AggregateKeyType"], rate["EvaluationWindowSec"]) == ("IP", 300)
    assert rule["Action"] == {"Block": {"CustomResponse": {"ResponseCode": 429}}}
    assert firewall["Scope"] == "CLOUDFRONT"
    for part in (firewall, rule):
        assert part["VisibilityConfig"]["SampledRequestsEnabled"] is False


def test_distribution_has_modern_protocols_and_no_log(distribution: dict[str, Any]) -> None:
    assert distribution["HttpVersion"] == "http2and3"
    assert distribution["ViewerCertificate"]["MinimumProtocolVersion"] == "TLSv1.2_2021"
    assert distribution["Origins"][0]["CustomOriginConfig"] == {
        "OriginProtocolPolicy": "https-only",
        "OriginSSLProtocols": ["TLSv1.2"],
    }
    assert distribution["WebACLId"] == {"Fn::GetAtt": ["Firewall", "Arn"]}
    assert "Logging" not in distribution


# ---- the order of the changes

ISSUER, CERTIFICATE = "https://login.example.com", "arn:aws:acm:us-east-1:123456789012:certificate/1"


@dataclass
class FakeStack:
    """A stack that is not in AWS. A secret that its distribution sends is in `sent`."""

    name: str
    values: dict[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    sent: str = ""
    deleted: bool = False

    def status(self) -> str | None:
        return "CREATE_COMPLETE" if self.results and not self.deleted else None

    def parameters(self) -> dict[str, str]:
        return self.values

    def outputs(self) -> dict[str, str]:
        return self.results

    def resources(self, kind: str) -> list[str]:
        assert kind == "AWS::CloudFront::Distribution"
        return [self.name]

    def delete(self) -> None:
        self.deleted = True


class FakeDeployment:
    """A stage whose server and front are two fake stacks. `log` has what each accepts and sends, in order."""

    def __init__(self, *, used: bool, domain: str = "") -> None:
        self.api = FakeStack("signet-api-prod")
        self.front_stack = FakeStack("signet-front-prod")
        self.stage, self.session, self.overrides = "prod", self, {"FrontCertificateArn": CERTIFICATE}
        self.front: str | None = None
        self.rotate_secret, self.front_secret, self.outputs = False, "", dict[str, str]()
        self.domain, self.leads_to_front, self.log = domain, None, list[tuple[int, bool]]()
        if used:
            self.deploy_api()
        self.log.clear()

    def client(self, service: str) -> "FakeDeployment":
        assert service == "cloudfront"
        return self

    def get_distribution_config(self, Id: str) -> dict[str, Any]:  # noqa: N803
        header = {"HeaderName": "X-Signet-Proxy-Secret", "HeaderValue": self.front_stack.sent}
        return {"DistributionConfig": {"Origins": {"Items": [{"Id": Id, "CustomHeaders": {"Items": [header]}}]}}}

    def deploy_api(self) -> None:
        self.api.values |= {k: v for k, v in self.overrides.items() if k in ("ProxySecretHash", "CallerAddressHeader")}
        address = f"https://{self.domain}" if self.domain else "https://abc.execute-api.eu-central-1.amazonaws.com"
        self.api.results = {"Issuer": ISSUER, "Address": address}
        if self.domain:
            self.api.results["DomainTarget"] = "d-1.execute-api.eu-central-1.amazonaws.com"
        self.outputs = self.api.results
        self._note()

    def parameters(self, _template: Path, stack: FakeStack, required: dict[str, str]) -> dict[str, str]:
        return stack.values | self.overrides | required

    def change(self, stack: FakeStack, template: str, parameters: dict[str, str]) -> None:
        assert json.loads(template)["Resources"]
        stack.values, stack.results, stack.sent = (
            parameters,
            {"FrontTarget": "d1.cloudfront.net"},
            parameters["OriginSecret"],
        )
        self._note()

    def _note(self) -> None:
        """Note how many secrets the server accepts, and whether it accepts the front's."""
        hashes = self.api.values.get("ProxySecretHash", "").split()
        self.log.append((len(hashes), not hashes or secret_hash(self.front_stack.sent) in hashes))

    def run(self, choice: str | None = "cloudfront", *, rotate: bool = False) -> None:
        """Run the steps of `deploy` for the front and the server."""
        deployment = cast(Deployment, self)
        self.front, self.rotate_secret, self.log = choice, rotate, []
        self.overrides = {} if self.front_stack.results else {"FrontCertificateArn": CERTIFICATE}
        issuer = "" if self.domain == "login.example.com" else ISSUER
        front.check_front(deployment, {"Issuer": issuer, "DomainName": self.domain})
        front.choose_secret(deployment)
        self.deploy_api()
        front.deploy_front(deployment)
        if front.settle(deployment):
            self.deploy_api()


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Answer the requests to the issuer: the value of X-Signet-Front by host; without an entry it is unreachable."""
    names: dict[str, str] = {}

    def ask(_method: str, url: str) -> Answer:
        assert url == f"{ISSUER}/healthz"
        if ISSUER not in names:
            raise Unreachable("no such host")
        return Answer(200, {"x-signet-front": names[ISSUER]} if names[ISSUER] else {}, b"")

    monkeypatch.setattr(front, "ask", ask)
    return names


def test_new_stage_requires_the_secret_of_its_front_at_once() -> None:
    new = FakeDeployment(used=False)
    new.run()
    assert len(new.front_stack.sent) >= 43  # 256 bits
    assert new.api.values == {
        "ProxySecretHash": secret_hash(new.front_stack.sent),
        "CallerAddressHeader": ADDRESS_HEADER,
    }
    assert [accepted for accepted, _ in new.log] == [1, 1]


def test_stage_in_use_requires_the_secret_only_when_its_address_leads_to_the_front(answers: dict[str, str]) -> None:
    used = FakeDeployment(used=True, domain="login.example.com")
    for answer in ("", "signet-front-other"):  # not through a front, or through another one
        answers[ISSUER] = answer
        used.run()
        assert "ProxySecretHash" not in used.api.values
    del answers[ISSUER]
    used.run()
    assert "ProxySecretHash" not in used.api.values
    answers[ISSUER] = "signet-front-prod"
    secret = used.front_stack.sent
    used.run(None)
    assert used.front_stack.sent == secret
    assert used.api.values["ProxySecretHash"] == secret_hash(secret)
    assert all(accepted for _, accepted in used.log)


def test_rotation_is_never_without_a_secret_that_the_server_accepts() -> None:
    stage = FakeDeployment(used=False)
    stage.run()
    before = stage.front_stack.sent
    stage.run(rotate=True)
    assert stage.log == [(2, True), (2, True), (1, True)]
    assert stage.front_stack.sent != before
    assert stage.api.values["ProxySecretHash"] == secret_hash(stage.front_stack.sent)
    stage.run()
    assert stage.log == [(1, True)] * 2


@pytest.mark.parametrize("rotated_in_front", [False, True])
def test_interrupted_rotation_is_completed_by_the_next_deployment(rotated_in_front: bool) -> None:
    stage = FakeDeployment(used=False)
    stage.run()
    deployment = cast(Deployment, stage)
    stage.rotate_secret = True
    front.choose_secret(deployment)
    stage.deploy_api()
    if rotated_in_front:
        front.deploy_front(deployment)
    stage.run(None)
    assert all(accepted for _, accepted in stage.log)
    assert stage.api.values["ProxySecretHash"] == secret_hash(stage.front_stack.sent)


@pytest.mark.parametrize(
    ("domain", "origin", "host"),
    [
        ("", "abc.execute-api.eu-central-1.amazonaws.com", "own"),
        ("login.example.com", "d-1.execute-api.eu-central-1.amazonaws.com", "public"),
        ("origin.example.com", "origin.example.com", "own"),
    ],
)
def test_origin_is_the_custom_domain_where_there_is_one(domain: str, origin: str, host: str) -> None:
    stage = FakeDeployment(used=False, domain=domain)
    stage.run()
    values = stage.front_stack.values
    assert (values["OriginDomain"], values["OriginHost"]) == (origin, host)
    assert values["PublicDomain"] == "login.example.com"
    records = front.dns_records(cast(Deployment, stage))
    assert records["login.example.com"] == "d1.cloudfront.net"
    assert set(records) == {"login.example.com"} | ({domain} if domain else set())


def test_front_is_removed_only_when_the_address_leads_elsewhere(answers: dict[str, str]) -> None:
    stage = FakeDeployment(used=False, domain="login.example.com")
    stage.run()
    for answer in ("signet-front-prod", None):
        if answer is None:
            del answers[ISSUER]
        else:
            answers[ISSUER] = answer
        stage.run("none")
        assert not stage.front_stack.deleted
        assert stage.api.values == {"ProxySecretHash": "", "CallerAddressHeader": ""}
    answers[ISSUER] = ""
    stage.run("none")
    assert stage.front_stack.deleted


@pytest.mark.parametrize(
    ("server", "overrides", "choice", "rotate", "message"),
    [
        ({}, {"FrontCertificateArn": CERTIFICATE}, "cloudfront", False, "A front needs your own domain"),
        ({"Issuer": ISSUER}, {}, "cloudfront", False, "Set FrontCertificateArn, the certificate of login.example.com"),
        ({"Issuer": f"{ISSUER}/x"}, {}, "cloudfront", False, "must have no port and no path"),
        ({"Issuer": f"{ISSUER}:8443"}, {}, "cloudfront", False, "must have no port and no path"),
        ({"Issuer": "http://localhost"}, {}, "cloudfront", False, "over https"),
        ({"Issuer": ISSUER}, {"RequestsPerFiveMinutes": "9"}, None, False, "RequestsPerFiveMinutes requires --front"),
        ({"Issuer": ISSUER}, {}, None, True, "--rotate-front-secret requires --front"),
    ],
)
def test_front_that_cannot_work_is_rejected_before_any_change(
    server: dict[str, str], overrides: dict[str, str], choice: str | None, rotate: bool, message: str
) -> None:
    stage = FakeDeployment(used=False)
    stage.overrides, stage.front, stage.rotate_secret = overrides, choice, rotate
    with pytest.raises(CommandError, match=message):
        front.check_front(cast(Deployment, stage), {"Issuer": "", "DomainName": "", **server})


def test_front_cannot_be_removed_when_its_domain_would_lead_nowhere() -> None:
    stage = FakeDeployment(used=False)
    stage.run()
    with pytest.raises(CommandError, match=r"login\.example\.com would lead nowhere"):
        stage.run("none")


# ---- the doctor


class FakeCloudFront:
    """The one distribution of an account."""

    def __init__(self, **changes: Any) -> None:
        shape = {"Id": "E1", "Comment": "Signet prod", "DomainName": "d1.cloudfront.net", "Status": "Deployed"}
        self.distribution = shape | {"Enabled": True, "WebACLId": "arn:aws:wafv2:1"} | changes

    def get_paginator(self, name: str) -> "FakeCloudFront":
        assert name == "list_distributions"
        return self

    def paginate(self) -> list[dict[str, Any]]:
        return [{"DistributionList": {}}, {"DistributionList": {"Items": [self.distribution]}}]

    def get_distribution_config(self, Id: str) -> dict[str, Any]:  # noqa: N803
        assert Id == "E1"
        headers = [{"HeaderName": "X-Signet-Proxy-Secret", "HeaderValue": "the secret"}]
        return {"DistributionConfig": {"Origins": {"Items": [{"CustomHeaders": {"Items": headers}}]}}}


@pytest.mark.parametrize(
    ("hashes", "changes", "ok", "detail"),
    [
        (secret_hash("the secret"), {}, True, "d1.cloudfront.net is deployed"),
        ("", {}, False, "callers can go past it"),
        (secret_hash("another"), {}, False, "every request gets status 403"),
        (f"{secret_hash('another')} {secret_hash('the secret')}", {}, False, "the secret before the last rotation"),
        (secret_hash("the secret"), {"WebACLId": ""}, False, "It has no firewall"),
        (secret_hash("the secret"), {"Status": "InProgress"}, False, "not deployed everywhere"),
        (secret_hash("the secret"), {"Enabled": False}, False, "not deployed everywhere"),
        ("", {"Comment": "Signet prod-eu"}, None, "This stage has no front"),
        (secret_hash("x"), {"Comment": "Signet prod-eu"}, None, "the secret of your own proxy"),
    ],
)
def test_doctor_checks_that_server_and_front_agree(
    hashes: str, changes: dict[str, Any], ok: bool | None, detail: str
) -> None:
    inside = Inside(cast(Any, SimpleNamespace(settings=SimpleNamespace(stage="prod"))))
    function = {"Environment": {"Variables": {"SIGNET_PROXY_SECRET_HASH": hashes}}}
    vars(inside).update(function=function, aws=lambda _service: FakeCloudFront(**changes))
    verdict = doctor_front.front(inside)
    assert verdict.ok is ok
    assert detail in verdict.detail
    assert "the secret" not in verdict.detail.replace("the secret before", "").replace("the secret of your", "")
