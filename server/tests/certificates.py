"""Creates certificates for the tests."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from katago_mcp.config import TlsFiles

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write(
    files: TlsFiles,
    *,
    days: float = 30,
    kind: str = "ec",
    password: bytes | None = None,
    address: str | None = None,
) -> int:
    """Write a key and a self-signed certificate, valid for `days`. Returns its serial number.

    `address`: an IP address that the certificate is also for.
    """
    names: list[x509.GeneralName] = [x509.DNSName("go.example.org")]
    if address is not None:
        names.append(x509.IPAddress(ipaddress.ip_address(address)))
    key: Key = ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "go.example.org")])
    end = datetime.now(UTC) + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=60))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password),
        )
    )
    return certificate.serial_number


def files(directory: Path, name: str = "tls") -> TlsFiles:
    """The paths of a certificate and its key in a directory."""
    return TlsFiles(directory / f"{name}.crt", directory / f"{name}.key")
