"""The end of a certificate's validity, read without any library."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


def not_after(pem: str) -> float:
    """When a certificate expires, in Unix time. Raises ValueError if the text has no certificate.

    The structure is that of RFC 5280, section 4.1: serial number, signature and issuer come before the
    validity, and a version before them in every certificate of version 2 or 3.
    """
    der = ssl.PEM_cert_to_DER_cert(_first(pem))
    try:
        certificate = _content(der)[1]
        fields = _children(_content(certificate)[1])
        if fields[0][0] == _VERSION:
            fields = fields[1:]
        kind, text = _children(fields[3][1])[1]
    except IndexError as error:
        raise ValueError("the certificate is damaged") from error
    # RFC 5280, section 4.1.2.5.1: two digits of the year, those from 50 on are of the last century.
    stamp = text.decode("ascii")
    if kind == _UTC_TIME:
        stamp = ("19" if stamp >= "50" else "20") + stamp
    return datetime.strptime(stamp, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _first(pem: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = pem.find(begin)
    stop = pem.find(end, start)
    if start < 0 or stop < 0:
        raise ValueError("there is no certificate")
    return pem[start : stop + len(end)]


def _children(content: bytes) -> list[tuple[int, bytes]]:
    found = []
    while content:
        kind, value, content = _element(content)
        found.append((kind, value))
    return found


def _content(element: bytes) -> tuple[int, bytes]:
    kind, value, _ = _element(element)
    if kind != _SEQUENCE:
        raise ValueError("the certificate is damaged")
    return kind, value


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """The tag and the content of the first element, and what follows it."""
    length, start = data[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("the certificate is damaged")
    return data[0], data[start : start + length], data[start + length :]
