"""PEM in the layouts in which it arrives: what is there is read, what is cut short is refused, nothing is quoted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spnhub.pki import Authority
from spnhub.transport.pem import canonical, holds_pem, load_chain, load_key

AUTHORITY = Authority.create()
MINE = AUTHORITY.client("me")
CHAIN = (MINE.certificate + AUTHORITY.certificate).decode()
KEY = MINE.key.decode()

LAYOUTS: dict[str, Callable[[str], str | bytes]] = {
    "as it is": lambda text: text,
    "bytes": str.encode,
    "literal \\n": lambda text: text.replace("\n", "\\n"),
    "literal \\r\\n": lambda text: text.replace("\n", "\\r\\n"),
    "literal \\n twice escaped": lambda text: text.replace("\n", "\\\\n"),
    "both kinds": lambda text: text.replace("\n", "\\n\n"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\n", "\r"),
    "one line": lambda text: text.replace("\n", " "),
    "no line ends at all": lambda text: text.replace("\n", ""),
    "no last line end": lambda text: text.rstrip("\n"),
    "blank lines": lambda text: "\n\n" + text.replace("\n", "\n\n"),
    "indented": lambda text: "    " + text.replace("\n", "\n    "),
    "trailing blanks": lambda text: text.replace("\n", " \t\n") + "  \n",
    "BOM": lambda text: "\ufeff" + text,
    "BOM, bytes": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "quoted": lambda text: f'"{text}"',
    "quoted, literal": lambda text: "'" + text.replace("\n", "\\n") + "'",
    "each line quoted": lambda text: "".join(f'"{line}\\n"\n' for line in text.splitlines()),
    "JSON's slash": lambda text: text.replace("/", "\\/"),
    "shell continuation": lambda text: text.replace("\n", "\\\n"),
    "text around": lambda text: (
        "Bag Attributes\n    friendlyName: mé\n" + text.replace("-----BEGIN", "# next\n-----BEGIN")
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    """A chain and a key are the same in all of them, and so is their usual layout."""
    change = LAYOUTS[layout]
    assert load_chain(change(CHAIN)) == load_chain(CHAIN)
    assert load_key(change(KEY)).public_key() == load_chain(CHAIN)[0].public_key()
    assert canonical(change(CHAIN)) == CHAIN.encode()
    assert canonical(change(KEY + CHAIN)) == (KEY + CHAIN).encode()
    assert holds_pem(change(CHAIN))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "UTF-16"])
@pytest.mark.parametrize("left", [40, 200, -len(CHAIN) // 2, -10], ids=["40", "200", "half", "nearly all"])
def test_cut_short(layout: str, left: int) -> None:
    """A file that is being written is never taken for a shorter chain."""
    with pytest.raises(ValueError, match=r"^holds a PEM block that is cut short$"):
        load_chain(LAYOUTS[layout](CHAIN[:left]))


def test_a_block_in_a_block() -> None:
    """The end of one lost, the beginning of the next kept."""
    first, second = MINE.certificate.decode(), AUTHORITY.certificate.decode()
    with pytest.raises(ValueError, match="cut short"):
        load_chain(first[: first.index("-----END")] + second)


def _encrypted(old: bool) -> str:
    form = serialization.PrivateFormat.TraditionalOpenSSL if old else serialization.PrivateFormat.PKCS8
    key = load_key(KEY)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"x")).decode()


P521 = (
    ec.generate_private_key(ec.SECP521R1())
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode()
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not a PEM private key"),
        ("secret", "is not a PEM private key"),
        (MINE.certificate.decode(), "is not a PEM private key"),
        (KEY.replace("M", "N"), "is not a PEM private key"),
        (_encrypted(old=False), "is an encrypted private key"),
        (_encrypted(old=True), "is an encrypted private key"),
        (_encrypted(old=True).replace("\n", "\\n"), "is an encrypted private key"),
        (P521, "is a key on the curve secp521r1, which TLS can't use here (P-256 and P-384 can be)"),
    ],
    # Keys are made anew in each process, and names of tests have to be the same in all.
    ids=["empty", "text", "certificate", "damaged", "encrypted", "encrypted, old", "encrypted, escaped", "P-521"],
)
def test_keys_that_cant_be_used(text: str, fault: str) -> None:
    """Named as what they are, never quoted."""
    with pytest.raises(ValueError) as caught:
        load_key(text)
    assert str(caught.value) == fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not a PEM certificate"),
        (KEY, "is not a PEM certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "holds a PEM certificate that can't be parsed",
        ),
    ],
    ids=["empty", "key", "damaged"],
)
def test_certificates_that_cant_be_read(text: str, fault: str) -> None:
    """Likewise."""
    with pytest.raises(ValueError) as caught:
        load_chain(text)
    assert str(caught.value) == fault
