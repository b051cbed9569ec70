"""The end of a certificate's validity."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.katago.fleet.plugins.module_utils.common.x509 import not_after

START = datetime(2020, 1, 1, tzinfo=UTC)


def certificate(end: datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "go.example.org")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(end)
        # Longer than 127 bytes, so that the length takes several bytes.
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("a" * 60 + f"{n}.example.org") for n in range(9)]),
            False,
        )
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


# RFC 5280 writes years from 2050 on in another form.
@pytest.mark.parametrize(
    "end", [datetime(2026, 11, 29, 17, 0, 1, tzinfo=UTC), datetime(2061, 2, 3, tzinfo=UTC)]
)
def test_end_of_the_validity_is_read(end: datetime) -> None:
    assert not_after(certificate(end)) == end.timestamp()


def test_first_certificate_of_a_chain_counts() -> None:
    first, second = datetime(2027, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    assert not_after(f"text\n{certificate(first)}{certificate(second)}") == first.timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIF\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_damaged_certificate_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        not_after(text)
