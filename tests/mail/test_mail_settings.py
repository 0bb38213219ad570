"""The settings of mail: their values, and what the process finds out about itself."""

import pytest

from chalicelib.settings import LOCAL_SENDER, Settings, SettingsError

LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "signet-api-prod-APIHandler-1", "SIGNET_STAGE": "prod"}


@pytest.mark.parametrize(
    "address", ["login", "login@", "a@b.com, c@d.com", "Login <a@b.com>", "ä@example.com", "a@b\n.com"]
)
def test_sender_must_be_an_address(address: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_EMAIL_FROM is .* must be an email address"):
        Settings.from_environ({"SIGNET_EMAIL_FROM": address})


@pytest.mark.parametrize("name", ["a b", "signet/prod", "x" * 65, "é"])
def test_configuration_set_must_have_a_possible_name(name: str) -> None:
    with pytest.raises(SettingsError, match="SIGNET_EMAIL_CONFIGURATION_SET"):
        Settings.from_environ({"SIGNET_EMAIL_CONFIGURATION_SET": name})


@pytest.mark.parametrize("number", ["0", "1000001", "-1"])
def test_ceiling_must_be_within_its_bounds(number: str) -> None:
    with pytest.raises(SettingsError, match="SIGNET_EMAILS_PER_DAY"):
        Settings.from_environ({"SIGNET_EMAILS_PER_DAY": number})


def test_mail_is_possible_only_with_a_sender() -> None:
    assert not Settings.from_environ(LAMBDA).can_send_mail
    assert Settings.from_environ({**LAMBDA, "SIGNET_EMAIL_FROM": "login@example.com"}).can_send_mail
    # With another DynamoDB outside Lambda, mails would need a sender too.
    assert not Settings.from_environ({"SIGNET_DYNAMODB_ENDPOINT": "http://127.0.0.1:1"}).can_send_mail
    local = Settings.from_environ({})
    assert (local.can_send_mail, local.email_from) == (True, LOCAL_SENDER)
    assert Settings.from_environ({"SIGNET_EMAIL_FROM": "a@example.com"}).email_from == "a@example.com"


def test_no_variable_turns_on_the_mailbox_in_lambda() -> None:
    variables = {"SIGNET_MAILBOX": "/tmp", "SIGNET_FUNCTION": "other"}
    settings = Settings.from_environ({**LAMBDA, **variables})
    assert (settings.mailbox, settings.function) == (None, None)


@pytest.mark.parametrize(("version", "behind_alias"), [("7", True), ("$LATEST", False), ("", False)])
def test_function_invokes_itself_only_behind_the_alias(version: str, behind_alias: bool) -> None:
    settings = Settings.from_environ({**LAMBDA, "AWS_LAMBDA_FUNCTION_VERSION": version})
    assert settings.function == ("signet-api-prod-APIHandler-1" if behind_alias else None)
