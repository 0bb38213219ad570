"""Insert imported passkeys: each with its identifier, and only for a user who exists."""

from contextlib import suppress

from chalicelib.keys import cose_keys
from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.protocol.passkey import MAX_CREDENTIAL_ID, Passkey, passkey_id_of, passkey_identifier
from chalicelib.protocol.records import Identifier
from chalicelib.storage.store import Store
from chalicelib.users.passkeys import check_name
from infra.access import NO_ACCESS, REJECTED
from infra.operator.doctor import inside
from infra.operator.doctor.passkeys import domain_of
from infra.operator.doctor.stage import Inside
from infra.operator.transfer.json_lines import Record
from infra.operator.transfer.outcome import Outcome


def insert_passkey(store: Store, passkey: Passkey) -> Outcome:
    """Insert a passkey. Raises ValueError when it is not valid."""
    _check(passkey)
    inserting = store.passkeys.inserting(passkey)
    identifying = store.identifiers.inserting(Identifier(passkey_identifier(passkey.passkey_id), passkey.sub))
    existing_user = store.users.checking((passkey.sub,))
    refused = store.transact(inserting, identifying, existing_user)
    if refused is None:
        return Outcome(added=True)
    if refused.of(existing_user):
        return Outcome(problem="its user does not exist")
    refusal = refused.of(inserting)
    existing = refusal.record if refusal else None
    if existing is None:
        return Outcome(problem="the passkey belongs to another user")
    if existing.public_key == passkey.public_key:  # its name and counter may have changed since
        return Outcome(existing=existing)
    return Outcome(problem=f"a different passkey {passkey.passkey_id} exists and was not changed")


def domain_in(record: Record) -> str | None:
    """Return the domain of a passkey, None for any other record."""
    return record.rp_id if isinstance(record, Passkey) else None


def passkey_domain(store: Store) -> str | None:
    """Return the domain of the passkeys of the stage, or None when it is unknown or has none."""
    with suppress(*REJECTED, *NO_ACCESS):
        return domain_of(Inside(store), inside.public_url(store))
    return None


def _check(passkey: Passkey) -> None:
    from fido2 import cbor

    credential_id = from_base64url(passkey.credential_id)
    canonical = base64url(credential_id) == passkey.credential_id and 0 < len(credential_id) <= MAX_CREDENTIAL_ID
    if not canonical or passkey_id_of(credential_id) != passkey.passkey_id:
        raise ValueError("its passkey_id is not that of its credential_id")
    try:
        key = cbor.decode(from_base64url(passkey.public_key))
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise ValueError("its public_key cannot be read") from error
    if not isinstance(key, dict) or cose_keys.algorithm_of(key) != passkey.alg:
        raise ValueError("its public_key is not one for its alg")
    check_name(passkey.name)
