"""The list of all tables: of each, its name, its key, and the kinds of records in it."""

from collections.abc import Callable

from chalicelib.protocol.attempts import Attempts
from chalicelib.protocol.authorization_type import AuthorizationType
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import (
    BlockedHosts,
    ClientDocument,
)
from chalicelib.protocol.grant import Grant, GrantEntry
from chalicelib.protocol.key_set import KeySet
from chalicelib.protocol.let_in import LetInLink
from chalicelib.protocol.mail_count import MailCount
from chalicelib.protocol.outgoing_mail import OutgoingMail
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.records import (
    AuthorizationRequest,
    Consent,
    Delivery,
    Event,
    Identifier,
    Proof,
    RequestClient,
    Session,
    User,
)
from chalicelib.protocol.registration_count import RegistrationCount
from chalicelib.protocol.registration_token import RegistrationToken
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.scheduled_deletion import ScheduledDeletion
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.protocol.spent_assertion import SpentAssertion
from chalicelib.storage.dynamodb import DynamoDB
from chalicelib.storage.table import R, Table


class Tables:
    """All tables of a stage, in infra/aws/tables.yaml too. `now` returns seconds since 1970."""

    def __init__(self, dynamodb: DynamoDB, now: Callable[[], int], stage: str):
        self.dynamodb = dynamodb
        self.now = now
        self._prefix = f"signet-{stage}-"
        self.clients = self._table("clients", Client, "client_id")
        self.documents = self._table("documents", ClientDocument, "document_id")
        self.users = self._table("users", User, "sub")
        self.identifiers = self._table("identifiers", Identifier, "identifier")
        self.passkeys = self._table("passkeys", Passkey, "sub", "passkey_id")
        self.consents = self._table("consents", Consent, "sub", "client_id")
        self.grants = self._table("grants", Grant, "grant_id")
        self.requests = self._table("requests", AuthorizationRequest, "request_id")
        self.sessions = self._table("sessions", Session, "session_id")
        self.scopes = self._table("scopes", Scope, "scope")
        self.resources = self._table("resources", Resource, "resource_id")
        self.registration_tokens = self._table("registration_tokens", RegistrationToken, "registration_token_id")
        self.proofs = self._table("proofs", Proof, "proof_key")
        self.attempts = self._table("attempts", Attempts, "attempts_id")
        self.events = self._table("events", Event, "sub", "event_id")
        self.deliveries = self._table("deliveries", Delivery, "delivery_id")
        self.keys = self._table("keys", SealedKeyRing, "ring")
        self.tables = tuple(table for table in vars(self).values() if isinstance(table, Table))
        # The same table, read by its index, which has only these attributes.
        self.grant_entries = self._table("grants", GrantEntry, "grant_id")
        # Other records of the same table: all count or limit something, and expire soon.
        self.let_in_links = self._table("attempts", LetInLink, "attempts_id")
        self.mail_counts = self._table("attempts", MailCount, "attempts_id")
        self.registration_counts = self._table("attempts", RegistrationCount, "attempts_id")
        self.spent_assertions = self._table("attempts", SpentAssertion, "attempts_id")
        # Other records of the table of documents: a cache of the same kind, and one record without an expiry.
        self.key_sets = self._table("documents", KeySet, "document_id")
        self.blocked_hosts = self._table("documents", BlockedHosts, "document_id")
        # Other records of the table of resources, so that the metadata needs one scan.
        self.authorization_types = self._table("resources", AuthorizationType, "resource_id")
        # In another partition of the same index, so that no delivery is read with them.
        self.deletions = self._table("deliveries", ScheduledDeletion, "delivery_id")
        # Mails and logout tokens have one outbox, and partitions of their own in its index.
        self.mails = self._table("deliveries", OutgoingMail, "delivery_id")
        # Without `expires_at`: it reads expired records too, until DynamoDB deletes them.
        self.request_clients = self._table("requests", RequestClient, "request_id")

    def _table(self, kind: str, record: type[R], *key: str) -> Table[R]:
        return Table(self.dynamodb, self.now, self._prefix + kind, record, *key)
