"""Host names and origins compare as DNS and browsers compare them."""

import pytest

from katago_mcp.access import Access, Authority, authority, origin


def access(*hosts: str, origins: tuple[str, ...] = (), host: str = "0.0.0.0", tls: bool = False) -> Access:
    return Access(host, hosts, origins, tls=tls)


@pytest.mark.parametrize(
    "header",
    [
        *("go.example.org", "GO.Example.ORG", "go.example.org.", "GO.example.org.:8080"),
        *("go.example.org:443", "localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]", "[::1]:8080"),
        "[0:0:0:0:0:0:0:1]:8080",
    ],
)
def test_names_without_a_port_have_any_port(header: str) -> None:
    assert access("go.example.org").accepts_host(header)
    assert access("go.example.org:*").accepts_host(header)
    assert access("Go.Example.Org.").accepts_host(header)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "evil.example", "go.example.org.evil", "sub.go.example.org", "go.example.org:*"),
        *("go.example.org:99999", "go.example.org:x", "go.example.org/", "user@go.example.org", "[::2]"),
        *("go.example.org..", "127.0.0.1.evil", "[::1", "::1]:80", "a b"),
    ],
)
def test_other_names_are_refused(header: str | None) -> None:
    assert not access("go.example.org").accepts_host(header)


def test_a_name_with_a_port_has_only_this_port() -> None:
    allowed = access("go.example.org:8443", "plain.example:443")
    assert allowed.accepts_host("go.example.org:8443")
    assert not allowed.accepts_host("go.example.org:8444")
    assert not allowed.accepts_host("go.example.org")
    # Clients leave out the default port.
    assert allowed.accepts_host("plain.example")


@pytest.mark.parametrize("entry", ["2001:db8::7", "[2001:db8::7]", "[2001:0DB8:0:0::7]:*"])
def test_the_notation_of_an_ipv6_address_makes_no_difference(entry: str) -> None:
    assert access(entry).accepts_host("[2001:DB8:0::7]:8080")
    assert access(host="2001:db8:0::7").accepts_host("[2001:db8::7]:8080")
    assert not access(entry).accepts_host("[2001:db8::8]:8080")


def test_international_names_compare_in_their_dns_form() -> None:
    assert access("bücher.example").accepts_host("xn--bcher-kva.example:8080")


@pytest.mark.parametrize(
    "header", ["https://App.Example.org", "https://app.example.org:443", "HTTPS://app.example.org"]
)
def test_origins_compare_without_case_and_default_port(header: str) -> None:
    assert access(origins=("https://app.example.org",)).accepts_origin(header)
    assert access(origins=("https://app.example.org:443",)).accepts_origin(header)
    assert access(origins=("https://app.example.org:*",)).accepts_origin(header)


@pytest.mark.parametrize(
    "header",
    ["http://app.example.org", "https://app.example.org:8443", "https://app.example.org.evil", "null", "x"],
)
def test_other_origins_are_refused(header: str) -> None:
    assert not access(origins=("https://app.example.org",)).accepts_origin(header)


def test_loopback_is_an_origin_with_any_port() -> None:
    assert access().accepts_origin("http://localhost:5173")
    assert access(tls=True).accepts_origin("https://127.0.0.1")


@pytest.mark.parametrize("text", ["", "*", "*.example.org", "a/b", "a:b:c", "https://a", "a:70000", "a\nb"])
def test_entries_that_are_no_names_are_not_read(text: str) -> None:
    assert authority(text) is None


@pytest.mark.parametrize("text", ["app.example.org", "ftp://a", "https://", "https://a/path", "*", "null"])
def test_entries_that_are_no_origins_are_not_read(text: str) -> None:
    assert origin(text) is None


def test_a_name_is_read_in_canonical_form() -> None:
    assert authority(" GO.example.org.:8080 ") == Authority("go.example.org", "8080")
