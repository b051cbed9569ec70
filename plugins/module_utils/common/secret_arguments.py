"""Finds secrets in command lines by their position: after an option, glued to a flag, after a user's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import (
    is_harmless,
    is_secret_name,
    words,
)

Span = tuple[int, int, int]
"""A secret: the index of its argument, and its start and end there."""


@dataclass(frozen=True)
class _Program:
    """The options of a program that take secrets, in addition to options with the names of secrets.

    `glued`: the value follows the flag in the same argument only. `next`: also in the next argument.
    `login`: the value is `user:secret`, with one of the `separators`. `only`: arguments without which the
    options mean something else. `last`: its last argument is a secret. `names`: a secret follows an argument
    that is a name.
    """

    glued: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    login: tuple[str, ...] = ()
    separators: str = ":"
    only: tuple[str, ...] = ()
    last: bool = False
    names: bool = False


_HTTP = _Program(next=("-b",), login=("-u", "--user", "-U", "--proxy-user", "-a", "--auth", "--login"))
_REGISTRY = _Program(
    next=("-p",),
    login=("--creds", "--src-creds", "--dest-creds", "--screds", "--dcreds"),
    only=("login", "copy", "push", "pull", "inspect"),
)
_LDAP = _Program(next=("-w",))
_SAMBA = _Program(login=("-U", "--user"), separators="%")
_PORTS = _Program(next=("-P",))
_SETTINGS = _Program(names=True)
_PROGRAMS = {
    **dict.fromkeys(
        ("mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck", "mysqlshow", "mysqlbinlog"),
        _Program(glued=("-p",)),
    ),
    **dict.fromkeys(
        ("mariadb", "mariadb-dump", "mariadb-admin", "mycli", "mysqlsh", "7z", "7za", "rar", "unrar"),
        _Program(glued=("-p",)),
    ),
    **dict.fromkeys(("curl", "wget", "http", "https", "xh", "httpie", "aria2c", "ab", "siege"), _HTTP),
    **dict.fromkeys(
        ("docker", "podman", "helm", "skopeo", "buildah", "nerdctl", "oras", "crane", "az"), _REGISTRY
    ),
    **dict.fromkeys(
        ("ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldappasswd", "ldapwhoami", "ldapcompare"),
        _LDAP,
    ),
    **dict.fromkeys(
        ("smbclient", "rpcclient", "smbmap", "net", "smbget", "smbcacls", "wmic", "winexe"), _SAMBA
    ),
    **dict.fromkeys(
        (
            "mosquitto_pub",
            "mosquitto_sub",
            "sqlcmd",
            "bcp",
            "isql",
            "tsql",
            "ipmitool",
            "zip",
            "unzip",
            "zipcloak",
        ),
        _PORTS,
    ),
    **dict.fromkeys(
        ("mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport", "useradd", "usermod"),
        _Program(next=("-p",)),
    ),
    **dict.fromkeys(
        ("sshpass", "ncftp", "impacket", "evil-winrm", "influx", "clickhouse-client"), _Program(next=("-p",))
    ),
    **dict.fromkeys(
        ("snmpget", "snmpwalk", "snmpset", "snmpbulkwalk", "snmptrap"), _Program(next=("-A", "-X", "-c"))
    ),
    **dict.fromkeys(
        ("aws", "nmcli", "git", "gh", "npm", "vault", "gcloud", "wg", "kubectl", "consul", "wpa_cli", "iw"),
        _SETTINGS,
    ),
    **dict.fromkeys(("redis-cli", "valkey-cli", "keydb-cli"), _Program(next=("-a",))),
    "ssh-keygen": _Program(next=("-N", "-P")),
    "openssl": _Program(next=("-k", "-K"), only=("enc",)),
    "lftp": _Program(login=("-u",), separators=",:"),
    "htpasswd": _Program(last=True),
    "wpa_passphrase": _Program(last=True),
    "rclone": _Program(last=True, only=("obscure",)),
}
_PROGRAM = re.compile(r"(?:.*[/=\"'(])?(?P<name>[\w.-]{2,24}?)(?:\.exe)?")
_FLAG = re.compile(r"(?P<dashes>--?|/)(?P<name>[A-Za-z][\w.-]{0,64})(?P<separator>[=:]?)(?P<value>.*)", re.S)
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_][\w.-]{0,80})=(?P<value>.+)", re.S)
_LOGINS = ("-u", "--user", "--proxy-user", "--basic-auth", "--http-auth", "--login")
_LOGIN = re.compile(r"--(?:user|proxy-user|basic-auth|http-auth|login)=(?P<value>.+)", re.S)
_GLUED = re.compile(r"-p(?P<value>(?![\d.:/-]+$)(?=\S*[\d!@#$%^&*+])(?=\S*[A-Za-z])[^\s/=]{6,})")
_NOT_A_VALUE = re.compile(
    r"is|was|are|must|requires|required|and|or|for|to|has|have|needs|need|cannot|not"
    r"|with|in|on|from|has|option|argument|flag|given|missing|expired"
)
_SEPARATORS = frozenset(("|", "||", "&&", ";", "&"))
_LONGEST_COMMAND = 32
_NO_PASSWORD = re.compile(r"\d{1,5}(?:[:/].*)?")


def spans(arguments: Sequence[str]) -> Iterator[Span]:
    """The secrets in the arguments of one or more commands, in order of their commands."""
    program = _Program()
    expects, separators = "", ""
    for index, word in enumerate(arguments):
        if expects:
            expected, expects = expects, ""
            if found := _value(expected, word, separators):
                yield index, *found
                continue
        if word in _SEPARATORS:
            program = _Program()
            continue
        named = _PROGRAM.fullmatch(word) if not word.startswith("-") else None
        if named and (listed := _PROGRAMS.get(named["name"].lower())):
            command = arguments[index + 1 : index + _LONGEST_COMMAND]
            program = (
                listed if not listed.only or any(each in listed.only for each in command) else _Program()
            )
            if program.last:
                yield from _last(command, index + 1)
            continue
        if start := _own_start(word, program):
            kind, start_at = start
            separators = program.separators if kind == "login" else ""
            if start_at < 0:
                expects = kind
            elif found := _value(kind, word[start_at:], separators):
                yield index, start_at + found[0], start_at + found[1]
            continue
        flag = _FLAG.fullmatch(word)
        if flag and is_secret_name(flag["name"]) and not (flag["dashes"] == "/" and flag["separator"] != ":"):
            if flag["separator"]:
                if flag["value"] and not is_harmless(flag["value"]):
                    yield index, flag.start("value"), len(word)
            else:
                expects = "secret"
        elif word in _LOGINS:
            expects, separators = "login", ":"
        elif (login := _LOGIN.fullmatch(word)) and (found := _value("login", login["value"], ":")):
            yield index, login.start("value") + found[0], len(word)
        elif glued := _GLUED.fullmatch(word):
            yield index, glued.start("value"), len(word)
        elif (assigned := _ASSIGNMENT.fullmatch(word.lstrip("-"))) and is_secret_name(assigned["name"]):
            if not is_harmless(assigned["value"]):
                yield index, len(word) - len(assigned["value"]), len(word)
        elif program.names and is_secret_name(word) and "=" not in word:
            expects = "secret"


def values(arguments: Sequence[str]) -> Iterator[str]:
    """The secrets in the arguments of a process."""
    for index, start, end in spans(arguments):
        yield arguments[index][start:end]


def _last(command: Sequence[str], first: int) -> Iterator[Span]:
    end = next((at for at, word in enumerate(command) if word in _SEPARATORS), len(command))
    if end >= 2 and not is_harmless(command[end - 1]) and not command[end - 1].startswith("-"):
        yield first + end - 1, 0, len(command[end - 1])


def _own_start(word: str, program: _Program) -> tuple[str, int] | None:
    """The kind of the value of a program's own option, and its start in the word; -1: in the next word."""
    for flags, kind in ((program.glued, "secret"), (program.next, "secret"), (program.login, "login")):
        for flag in flags:
            if word == flag:
                return (kind, -1) if flags is not program.glued else None
            if word.startswith(f"{flag}="):
                return kind, len(flag) + 1
            if word.startswith(flag) and not flag.startswith("--"):
                return kind, len(flag)
    return None


def _value(kind: str, word: str, separators: str) -> tuple[int, int] | None:
    if kind == "login":
        at = min((word.find(each) for each in separators if each in word), default=-1)
        if at < 1 or (separators == ":" and _NO_PASSWORD.fullmatch(word[at + 1 :])) or at + 1 == len(word):
            return None
        return at + 1, len(word)
    if not word or (word.startswith("-") and _FLAG.fullmatch(word) and words(word)):
        return None
    if _NOT_A_VALUE.fullmatch(word.lower().strip(".,:;")) or is_harmless(word):
        return None
    return 0, len(word)
