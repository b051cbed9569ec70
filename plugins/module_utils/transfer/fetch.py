"""Fetches a file from another host or from a mirror, and accepts it only with the right sha256."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

_BLOCK = 1 << 20


class FetchError(Exception):
    """The file was not fetched. The message has the cause, without credentials of the address."""


def fetch(address: str, sha256: str, size: int, target: Path, *, direct: bool, seconds: float) -> None:
    """Fetch a file of `size` bytes into `target`. A wrong file is deleted.

    No more than `size` bytes are written: what is sent could fill the disk. `direct`: connect to the address
    itself, whatever proxy is configured. `seconds`: the longest time without any data.

    Raises:
        FetchError: the address does not answer, or its file is another one, or only a part of it.
    """
    request = request_of(address)
    proxies = [urllib.request.ProxyHandler({})] if direct else []
    opener = urllib.request.build_opener(*proxies)
    digest, received = hashlib.sha256(), 0
    try:
        with opener.open(request, timeout=seconds) as answer, target.open("wb") as file:
            while block := answer.read(_BLOCK):
                received += len(block)
                if received > size:
                    raise FetchError(f"its file has more than {size} bytes")
                file.write(block)
                digest.update(block)
        if received < size:
            raise FetchError(f"it sent only {received} of {size} bytes")
        if digest.hexdigest() != sha256:
            raise FetchError(f"the sha256 of its file is {digest.hexdigest()}, not {sha256}")
    # ValueError: a host name that is none.
    except (OSError, http.client.HTTPException, ValueError, FetchError) as error:
        with contextlib.suppress(OSError):
            target.unlink(missing_ok=True)
        raise error if isinstance(error, FetchError) else FetchError(_reason(error)) from None


def request_of(address: str) -> urllib.request.Request:
    """The request for an address. User and password become a header, which a redirect does not get.

    Raises:
        FetchError: the address is not one of http or https.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FetchError("its address does not begin with http:// or https:// and a host")
    userinfo, _, place = parts.netloc.rpartition("@")
    plain = parts._replace(netloc=place).geturl()
    request = urllib.request.Request(plain)  # noqa: S310 (the scheme is checked above)
    if userinfo:
        credentials = base64.b64encode(urllib.parse.unquote(userinfo).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
    return request


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(getattr(error.reason, "strerror", None) or error.reason)
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was cut"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
