"""The system's root certificates, for endpoints that have no ``trust``. Blocks; counterpart: :mod:`.credentials`."""

from __future__ import annotations

import os
import ssl
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from spnhub.transport import pem

__all__ = ["system_roots"]

_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep them, Python's own idea of it aside."""


def system_roots() -> bytes | None:
    """The system's roots (SSL_CERT_FILE and SSL_CERT_DIR say otherwise); None: there are none to be found."""
    paths = ssl.get_default_verify_paths()
    for file in (os.environ.get(paths.openssl_cafile_env), paths.cafile, *_BUNDLES):
        if file and (found := _usable((Path(file),))):
            return found
    if paths.capath and (found := _usable(tuple(sorted(Path(paths.capath).iterdir())))):
        return found
    return None


def _usable(files: tuple[Path, ...]) -> bytes | None:
    states = []
    for file in files:
        try:
            state = file.stat()
        except OSError:
            continue
        states.append((file, state.st_mtime_ns, state.st_size, state.st_ino))
    return _roots(tuple(states)) if states else None


@lru_cache(maxsize=4)
def _roots(states: tuple[tuple[Path, int, int, int], ...]) -> bytes | None:
    """Those that can be used: a system's bundle may hold one that can't."""
    found: dict[bytes, None] = {}
    with warnings.catch_warnings():
        # A root's oddities are its issuer's affair.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        _collect(states, found)
    return b"".join(found) or None


def _collect(states: tuple[tuple[Path, int, int, int], ...], found: dict[bytes, None]) -> None:
    for file, *_ in states:
        try:
            text = pem.canonical(file.read_bytes()).decode()
        except (OSError, ValueError):
            continue
        for block in text.split("-----END CERTIFICATE-----\n"):
            try:
                (certificate,) = pem.load_chain(block + "-----END CERTIFICATE-----\n")
            except ValueError:
                continue
            found[certificate.public_bytes(Encoding.PEM)] = None
