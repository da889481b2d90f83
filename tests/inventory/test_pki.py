"""The development CA: each kind of certificate is what its name says, as OpenSSL's verifier sees it."""

from __future__ import annotations

import pytest
from cryptography import x509
from OpenSSL import crypto

from spnhub.inventory import pem
from spnhub.pki import Authority, IssuedCredentials


@pytest.fixture(scope="module")
def authority() -> Authority:
    """One CA for all."""
    return Authority.create()


def judged(authority: Authority, credentials: IssuedCredentials) -> str:
    """What the verifier says about a certificate; "" is that it is good."""
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(x509.load_pem_x509_certificate(authority.certificate)))
    store.set_flags(crypto.X509StoreFlags.X509_STRICT)
    leaf = crypto.X509.from_cryptography(x509.load_pem_x509_certificate(credentials.certificate))
    try:
        crypto.X509StoreContext(store, leaf).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    return ""


def test_certificates_chain_to_their_authority_only(authority: Authority) -> None:
    """Good with it, strictly; unknown to another."""
    for credentials in (authority.server("hub.test", "127.0.0.1"), authority.client("me"), authority.client(None)):
        assert judged(authority, credentials) == ""
        assert "issuer" in judged(Authority.create(), credentials)
        assert pem.matches(credentials.key.decode(), credentials.certificate.decode())


def test_validity(authority: Authority) -> None:
    """Expired is over, not yet valid has not begun."""
    assert judged(authority, authority.client("me", expired=True)) == "certificate has expired"
    assert judged(authority, authority.client("me", not_yet_valid=True)).startswith("certificate is not yet valid")


def test_subject_usage_and_names(authority: Authority) -> None:
    """Common name, organization, extended key usage, alternative names: with and without."""
    full = x509.load_pem_x509_certificate(authority.client("me", organization="ACME").certificate)
    bare = x509.load_pem_x509_certificate(authority.client("me", client_auth=False, alternative_name=False).certificate)
    nameless = x509.load_pem_x509_certificate(authority.client(None).certificate)
    server = x509.load_pem_x509_certificate(authority.server("hub.test", "::1").certificate)
    assert [one.subject.rfc4514_string() for one in (full, bare, nameless, server)] == [
        "CN=me,O=ACME",
        "CN=me",
        "O=SPN Hub development",
        "CN=hub.test",
    ]
    usages = [
        [usage.dotted_string for usage in one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value]
        for one in (full, bare, server)
    ]
    assert usages == [["1.3.6.1.5.5.7.3.2"], ["1.3.6.1.5.5.7.3.1"], ["1.3.6.1.5.5.7.3.1"]]
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["hub.test", "::1"]
    with pytest.raises(x509.ExtensionNotFound):
        bare.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_keys_are_not_in_a_repr(authority: Authority) -> None:
    """Neither the authority's nor a client's."""
    assert "PRIVATE KEY" not in repr(authority) + repr(authority.client("me"))
