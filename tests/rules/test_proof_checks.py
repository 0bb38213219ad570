"""Proofs by email: which one replaces which, and what ends them, without their pages."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import Content, WrongCode
from chalicelib.http.messages import Request
from chalicelib.mail import proof_codes
from chalicelib.protocol.errors import RequestEnded
from chalicelib.protocol.proof import MAX_LINK_TRIES, MAX_TRIES, RESET, SIGN_IN, Proof
from tests.support.faults import Wire
from tests.support.site import Site

SENT = Content("alice@example.com", "alice", "a=b")
HTTP = Request("POST", "/")


def stored(site: Site, content: Content = SENT, purpose: str = SIGN_IN, **members: Any) -> Proof:
    proof = proofs.new_proof(site.server, purpose, "alice", content, browser_id="browser", **members)
    site.server.store.transact(proofs.storing(site.server, proof))
    return proof


def code_of(site: Site, proof: Proof) -> str:
    code = proof_codes.code_of(site.server, proof.proof_id, proof.purpose)
    site.secrets.add(code)
    return code


def wrong_code(code: str) -> str:
    return code[:-1] + ("A" if code[-1] != "A" else "B")


def test_proof_replaces_one_for_the_same_purpose_and_person_only(site: Site) -> None:
    def key(purpose: str, about: str | None) -> str:
        return proofs.new_proof(site.server, purpose, about, SENT).proof_key

    assert key(RESET, "alice") == key(RESET, "alice")
    assert len({key(RESET, "alice"), key(SIGN_IN, "alice"), key(RESET, "bob")}) == 3
    assert key(RESET, None) != key(RESET, None), "one that is about no one replaces none"


def test_content_that_can_no_longer_be_read_has_ended(site: Site) -> None:
    proof = stored(site)
    assert proofs.content_of(site.server, proof) == SENT
    for sealed in (None, "", (proof.sealed or "")[:-4] + "AAAA"):
        with pytest.raises(RequestEnded):
            proofs.content_of(site.server, replace(proof, sealed=sealed))
    with pytest.raises(RequestEnded):
        proofs.content_of(site.server, replace(proof, proof_key="signin.other"))


def test_proof_is_found_by_its_whole_id(site: Site) -> None:
    proof = stored(site)
    assert proofs.find(site.server, proof.proof_id) == proof
    for other in (proof.proof_key, f"{proof.proof_key}.", f"{proof.proof_key}.x", f"x.{proof.nonce}", "", None):
        assert proofs.find(site.server, other) is None
    newer = stored(site)
    assert proofs.find(site.server, proof.proof_id) is None
    assert proofs.find(site.server, newer.proof_id) == newer


def test_forged_link_is_rejected_without_a_read(site: Site, wire: Wire) -> None:
    proof = stored(site)
    handle = proofs.link_handle(site.server, proof)
    site.secrets.add(handle)
    assert proofs.find_by_link(site.server, handle) == proof
    with wire.counted() as counted:
        for forged in (handle[:-4] + "AAAA", "em_x", "", None):
            with pytest.raises(RequestEnded):
                proofs.find_by_link(site.server, forged)
    assert list(counted) == []


@pytest.mark.parametrize(("by_link", "limit"), [(False, MAX_TRIES), (True, MAX_LINK_TRIES)])
def test_tries_of_a_code_are_limited_and_count_apart(site: Site, *, by_link: bool, limit: int) -> None:
    proof = stored(site)
    code = code_of(site, proof)

    def attempt(text: str, *, by_link: bool = by_link) -> None:
        proofs.check_code(site.server, HTTP, proof, text, by_link=by_link)

    for _ in range(limit - 1):
        with pytest.raises(WrongCode):
            attempt(wrong_code(code))
    with pytest.raises(RequestEnded, match="too many wrong codes"):
        attempt(wrong_code(code))
    with pytest.raises(RequestEnded, match="too many wrong codes"):
        attempt(code)
    attempt(code, by_link=not by_link)


def test_what_no_code_can_be_is_not_counted(site: Site) -> None:
    proof = stored(site)
    code = code_of(site, proof)
    for text in ("", code[:-1], f"{code}A", code[:-1] + "0", "☃" * 8):
        with pytest.raises(WrongCode):
            proofs.check_code(site.server, HTTP, proof, text)
    assert proofs.find(site.server, proof.proof_id) == proof, "no try is counted"
    proofs.check_code(site.server, HTTP, proof, f" {code[:4].lower()}-{code[4:]} ")


def test_right_code_of_a_decoy_is_wrong(site: Site) -> None:
    proof = stored(site, Content("", "nobody"))
    with pytest.raises(WrongCode):
        proofs.check_code(site.server, HTTP, proof, code_of(site, proof))


def test_code_that_ends_says_why(site: Site) -> None:
    proof = stored(site)
    code = code_of(site, proof)
    site.server.store.transact(proofs.spending(site.server, proof))
    with pytest.raises(RequestEnded, match="expired, was used, or was replaced") as spent:
        proofs.check_code(site.server, HTTP, proof, code)
    assert (spent.value.retry or "").endswith("/account?a=b")
    newer = stored(site)
    with pytest.raises(RequestEnded, match="expired, was used, or was replaced"):
        proofs.check_code(site.server, HTTP, proof, code)
    proofs.check_code(site.server, HTTP, newer, code_of(site, newer))
    site.server.store.proofs.delete(newer.proof_key)
    with pytest.raises(RequestEnded, match="expired, was used, or was replaced"):
        proofs.check_code(site.server, HTTP, newer, code_of(site, newer))


# ---- which browser may use it


def spend(site: Site, proof: Proof, browser_id: str | None = None) -> bool:
    return not site.server.store.transact(proofs.spending(site.server, proof, browser_id))


def test_proof_is_spent_once_by_the_browser_that_may_use_it(site: Site) -> None:
    proof = stored(site)
    assert not spend(site, proof, "other")
    assert spend(site, proof, "browser")
    assert not spend(site, proof, "browser")
    current = site.server.store.proofs.get(proof.proof_key)
    assert proofs.is_spent(current, proof)
    assert proofs.is_spent(current, proof, "browser")
    assert not proofs.is_spent(current, proof, "other")
    assert not proofs.is_spent(current, replace(proof, nonce="other"))
    assert not proofs.is_spent(proof, proof)
    assert not proofs.is_spent(None, proof)


def test_other_browser_may_use_a_proof_once_it_is_let(site: Site, wire: Wire) -> None:
    proof = stored(site)
    with wire.counted() as counted:
        proofs.let_browser_use(site.server, proof, "browser")
    assert list(counted) == [], "it may already"
    proofs.let_browser_use(site.server, proof, "other")
    assert not spend(site, proof, "browser")
    assert spend(site, proof, "other")
    with pytest.raises(RequestEnded):
        proofs.let_browser_use(site.server, proof, "third")


@pytest.mark.parametrize(
    ("purpose", "query", "retry"),
    [(RESET, "", "/account/recover"), (SIGN_IN, "a=b", "/account?a=b"), ("undo", "a=b", ""), ("", "a=b", "")],
)
def test_page_of_an_ended_proof_leads_to_where_to_ask_again(
    site_with: Callable[..., Site], purpose: str, query: str, retry: str
) -> None:
    for issuer, base in (("https://login.example.com", ""), ("https://login.example.com/id", "/id")):
        error = proofs.ended(site_with(issuer=issuer).server, purpose, query)
        assert error.retry == (base + retry if retry else "")
