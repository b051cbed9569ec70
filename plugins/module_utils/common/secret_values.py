"""Finds secret values by the names of keys, variables and options, and in files that contain secrets."""

from __future__ import annotations

import json
import re
import shlex
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import secret_arguments
from ansible_collections.katago.fleet.plugins.module_utils.common.redaction import SHORTEST, Secret
from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import (
    is_secret_name,
    is_secret_variable,
)

_UNLIKE_WORDS = re.compile(r"\d|[a-z][A-Z]")
_OPEN_HEADERS = ("accept", "content-type", "user-agent")


def worth_searching(value: str) -> bool:
    """Whether a value that is secret only by its name can be redacted everywhere.

    Redacting a plain word, a number or a path would also remove harmless text.
    """
    return len(value) >= SHORTEST and not re.fullmatch(r"[A-Za-z_.-]{0,15}|\d{0,11}|/.*|\[redacted.*", value)


def in_json(value: Any, name: str = "") -> Iterator[str]:
    """The strings below secret keys in a parsed JSON value."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from in_json(each, str(key))
    elif isinstance(value, list):
        for each in value:
            yield from in_json(each, name)
    elif isinstance(value, str) and value and is_secret_name(name):
        yield value


def in_sinks(value: Any) -> Iterator[str]:
    """The secrets of an incident's channels that are not secret by name: webhook URLs and headers.

    Of a URL: the whole URL, its password, and each part that looks random.
    """
    if isinstance(value, Mapping):
        if isinstance(url := value.get("url"), str):
            yield url
            yield from (secret.value.decode() for secret in in_address("", url.encode()))
            yield from (word for word in re.findall(r"[\w-]{16,}", url) if _UNLIKE_WORDS.search(word))
        headers = value.get("headers")
        for name, header in headers.items() if isinstance(headers, Mapping) else ():
            if str(name).lower() not in _OPEN_HEADERS:
                yield str(header)
                yield from str(header).split()[1:]
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from in_sinks(each)


def in_environment(variables: Mapping[str, str]) -> Iterator[str]:
    """The values of variables with secret names."""
    yield from (value for name, value in variables.items() if value and is_secret_variable(name))


def in_arguments(arguments: Sequence[str]) -> Iterator[str]:
    """The secrets in the arguments of a process."""
    yield from secret_arguments.values(arguments)


def in_unit(text: str) -> Iterator[str]:
    """The values of the secret variables that a unit file sets."""
    for line in re.findall(r"^\s*Environment=(.*)$", text, re.M):
        try:
            words = shlex.split(line)
        except ValueError:
            words = line.split()
        values = in_environment({name: value for name, _, value in (word.partition("=") for word in words)})
        for value in values:
            yield value
            # In a unit file, `%%` stands for `%`.
            if "%%" in value:
                yield value.replace("%%", "%")


def in_file(name: str, content: bytes) -> list[Secret]:
    """The secrets in a file whose purpose is to hold them: a key, tokens, an environment file, a password."""
    if b"PRIVATE KEY" in content:
        lines = [line.strip() for line in content.splitlines() if b"-----" not in line]
        return [Secret(line, name) for line in lines if len(line) >= 2 * SHORTEST]
    if b"BEGIN CERTIFICATE" in content:
        return []
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict | list):
        return [Secret(value.encode(), name) for value in in_json(parsed)]
    secrets = []
    for line in filter(None, (line.strip() for line in content.splitlines())):
        # The whole line too, since a line that contains `=` may be base64.
        secrets.append(Secret(line, name))
        if variable := re.match(rb"(?:export )?[A-Za-z_]\w*=(?P<value>.+)", line):
            secrets.append(Secret(variable["value"].strip(b"\"'"), name))
    return secrets


def in_address(name: str, address: bytes) -> list[Secret]:
    """The password in an address such as `rest:https://user:password@host/`, as written and decoded."""
    match = re.search(rb"://[^\s/@:]*:(?P<password>\S+)@", address)
    if not match:
        return []
    value = match["password"]
    return [Secret(value, name), Secret(urllib.parse.unquote_to_bytes(value), name)]
