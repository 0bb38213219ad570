"""All commands of the operator on the data of a stage."""

from infra.operator.authorization_types import authorization_type
from infra.operator.client_certificates import add_client_certificate, list_certificates, remove_client_certificate
from infra.operator.client_documents import (
    block_document,
    list_documents,
    pin_document,
    unblock_document,
    unpin_document,
)
from infra.operator.clients import client
from infra.operator.completion import completion
from infra.operator.doctor import doctor
from infra.operator.grants import grant
from infra.operator.history import history_
from infra.operator.keys import key
from infra.operator.passkeys import passkey_
from infra.operator.registration_tokens import registration_token
from infra.operator.resources import resource
from infra.operator.scopes import scope
from infra.operator.settings import settings_
from infra.operator.transfer import export, import_
from infra.operator.truststore_commands import truststore
from infra.operator.user_invite import invite_user
from infra.operator.user_mfa import mfa
from infra.operator.user_restoration import restore_user
from infra.operator.user_sign_in import let_in_user, unlock_user
from infra.operator.users import user

for _command in (list_documents, pin_document, unpin_document, block_document, unblock_document):
    client.add_command(_command)
for _command in (add_client_certificate, list_certificates, remove_client_certificate):
    client.add_command(_command)
user.add_command(restore_user)
user.add_command(invite_user)
user.add_command(let_in_user)
user.add_command(unlock_user)
user.add_command(mfa)
user.add_command(passkey_)
OPERATOR_COMMANDS = (
    *(client, registration_token, user, resource, scope, authorization_type, grant, key, history_, settings_),
    *(truststore, doctor, export, import_, completion),
)
