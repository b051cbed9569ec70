"""Finds secrets in command lines by their position: after an option, glued to a flag, after a user's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import (
    is_harmless,
    is_secret_name,
    is_setting,
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
    that is a name. `places`: after these commands, the argument with this number is a secret. `grouped`:
    letters of flags that may stand at the end of others, as in `-su`. `assigned`: each `name=value` has a
    secret; `settings`: except settings such as `ttl=1h`.
    """

    glued: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    login: tuple[str, ...] = ()
    separators: str = ":"
    only: tuple[str, ...] = ()
    last: bool = False
    names: bool = False
    places: tuple[tuple[str, int], ...] = ()
    grouped: str = ""
    assigned: bool = False
    settings: bool = False


_HTTP = _Program(
    next=("-b",),
    login=(
        *("-u", "--user", "-U", "--proxy-user", "-a", "--auth", "--login"),
        # A file and its passphrase.
        *("-E", "--cert", "--proxy-cert"),
    ),
    grouped="uUE",
)
_REGISTRY = _Program(
    next=("-p",),
    login=("--creds", "--src-creds", "--dest-creds", "--screds", "--dcreds"),
    only=("login", "copy", "push", "pull", "inspect"),
)
_LDAP = _Program(next=("-w",), grouped="w")
_SAMBA = _Program(login=("-U", "--user"), separators="%", places=(("user", 2),))
_PORTS = _Program(next=("-P",), grouped="P")
_SETTINGS = _Program(names=True)
_CLUSTER = _Program(login=("--from-literal",), separators="=", names=True)
_ASSIGNMENTS = _Program(assigned=True, names=True)
_PROGRAMS = {
    **dict.fromkeys(
        ("mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck", "mysqlshow", "mysqlbinlog"),
        _Program(glued=("-p",)),
    ),
    **dict.fromkeys(("mc", "mcli"), _Program(places=(("set", 4), ("add", 4)), only=("alias", "host"))),
    **dict.fromkeys(("doveadm", "smbpasswd", "kinit"), _Program(next=("-p",))),
    **dict.fromkeys(
        ("mariadb", "mariadb-dump", "mariadb-admin", "mycli", "mysqlsh", "7z", "7za", "rar", "unrar"),
        _Program(glued=("-p",)),
    ),
    **dict.fromkeys(("curl", "wget", "http", "https", "xh", "httpie", "aria2c", "ab", "siege"), _HTTP),
    **dict.fromkeys(
        ("docker", "podman", "helm", "skopeo", "buildah", "nerdctl", "oras", "crane", "az"), _REGISTRY
    ),
    **dict.fromkeys(
        ("ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "ldapcompare"),
        _LDAP,
    ),
    "ldappasswd": _Program(next=("-w", "-s", "-a")),
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
        ("aws", "nmcli", "git", "gh", "npm", "vault", "bao", "gcloud", "wg", "consul", "etcdctl", "wpa_cli"),
        _SETTINGS,
    ),
    **dict.fromkeys(("iw", "glab", "heroku"), _SETTINGS),
    **dict.fromkeys(("fly", "flyctl"), _Program()),
    **dict.fromkeys(("kubectl", "oc", "kustomize"), _CLUSTER),
    **dict.fromkeys(("redis-cli", "valkey-cli", "keydb-cli"), _Program(next=("-a",))),
    "ssh-keygen": _Program(next=("-N", "-P")),
    "openssl": _Program(next=("-hmac",)),
    "gpg-preset-passphrase": _Program(next=("-P",)),
    "mkpasswd": _Program(last=True),
    "lftp": _Program(login=("-u",), separators=",:"),
    "htpasswd": _Program(last=True),
    "mosquitto_passwd": _Program(last=True, only=("-b",)),
    "wpa_passphrase": _Program(last=True),
    "rclone": _Program(names=True, places=(("obscure", 1), ("password", 3))),
}
_COMMANDS = {
    **{
        (program, command): _ASSIGNMENTS
        for program, commands in (
            ("vault", ("put", "patch")),
            ("bao", ("put", "patch")),
            ("heroku", ("config:set", "config:add")),
            ("fly", ("secrets",)),
            ("flyctl", ("secrets",)),
            ("az", ("appsettings",)),
        )
        for command in commands
    },
    **{
        (program, "write"): _Program(assigned=True, settings=True, names=True) for program in ("vault", "bao")
    },
    **{
        (program, command): _Program(next=("-b", "--body", "-v", "--value"))
        for program, command in (("gh", "secret"), ("glab", "variable"))
    },
    ("az", "secret"): _Program(next=("--value",)),
    ("aws", "put-parameter"): _Program(next=("--value",)),
    ("openssl", "enc"): _Program(next=("-k", "-K")),
    ("openssl", "passwd"): _Program(last=True),
}
"""Commands of programs that take secrets in another way than the program's other commands."""
# Settings of the roles and users of a store of secrets.
_OPEN_FIELDS = frozenset(
    ("policies", "policy", "ttl", "period", "renewable", "ttls", "bound", "cidrs", "uses")
)
# The argument of an option, and the name of a method, but no password.
_METHOD = re.compile(r"(?:sha|md)-?\d{1,3}|(?:bcrypt|scrypt|yescrypt|gost-yescrypt|apr1|des|nt)(?:-?\w)?|-")
_PROGRAM = re.compile(r"(?:.*[/=\"'(])?(?P<name>[\w.-]{2,24}?)(?:\.exe)?")
_FLAG = re.compile(r"(?P<dashes>--?|/)(?P<name>[A-Za-z][\w.-]{0,64})(?P<separator>[=:]?)(?P<value>.*)", re.S)
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_][\w.-]{0,80})=(?P<value>.+)", re.S)
# Options that take a secret in some programs and something else in others.
_AMBIGUOUS = re.compile(r"(?P<flag>--?key|-P)(?:=(?P<value>.+))?", re.S)
_LIKE_PASSWORD = re.compile(r"(?=.*[\d!#$%^&*@+])(?=.*[A-Za-z])(?!.*[/\\])(?!.*\.\w{1,4}$)[^-].{5,}", re.S)
_LOGINS = ("-u", "--user", "--proxy-user", "--basic-auth", "--http-auth", "--login")
_LOGIN = re.compile(r"--(?:user|proxy-user|basic-auth|http-auth|login)=(?P<value>.+)", re.S)
_GLUED = re.compile(r"-p(?P<value>(?![\d.:/-]+$)(?=\S*[\d!@#$%^&*+])(?=\S*[A-Za-z])[^\s/=]{6,})")
_NOT_A_VALUE = re.compile(
    r"is|was|are|must|requires|required|and|or|for|to|has|have|needs|need|cannot|not"
    r"|with|in|on|from|has|option|argument|flag|given|missing|expired"
)
# Commands of any program that take a user and his password, such as `rabbitmqctl add_user anna X`.
_USER_COMMAND = re.compile(
    r"(?:add|create|new|change|set|reset|update|authenticate)[_-](?:user|password|passwd|pw)(?:[_-]password)?"
)
_NTH_OF_USER_COMMAND = 2
_SEPARATORS = frozenset(("|", "||", "&&", ";", "&"))
_LONGEST_COMMAND = 32
_LONGEST_GROUP = 9
_NO_PASSWORD = re.compile(r"\d{1,5}(?:[:/].*)?|//.*")


def spans(arguments: Sequence[str]) -> Iterator[Span]:
    """The secrets in the arguments of one or more commands, in order of their commands."""
    program = _Program()
    expects, separators = "", ""
    for index, word in enumerate(arguments):
        if word in _SEPARATORS:
            program, expects = _Program(), ""
            continue
        if expects:
            expected, expects = expects, ""
            if found := _value(expected, word, separators):
                yield index, *found
                continue
        named = _PROGRAM.fullmatch(word) if not word.startswith("-") else None
        if named and (listed := _PROGRAMS.get(named["name"].lower())):
            command = _command(arguments, index + 1)
            special = (_COMMANDS.get((named["name"].lower(), each)) for each in command)
            program = next(filter(None, special), listed)
            if program.only and not any(each in program.only for each in command):
                program = _Program()
            if program.last:
                yield from _last(command, index + 1)
            continue
        nth = dict(program.places).get(word) or (_USER_COMMAND.fullmatch(word) and _NTH_OF_USER_COMMAND)
        if nth:
            yield from _nth(_command(arguments, index + 1), index + 1, nth)
            continue
        flag = _FLAG.fullmatch(word)
        named_flag = bool(flag and is_secret_name(flag["name"]) and not _is_path(flag))
        glued_only = any(word.startswith(each) for each in program.glued)
        if (not named_flag or glued_only) and (start := _own_start(word, program)):
            kind, start_at = start
            separators = program.separators if kind == "login" else ""
            if start_at < 0:
                expects = kind
            elif found := _value(kind, word[start_at:], separators):
                yield index, start_at + found[0], start_at + found[1]
            continue
        if flag and named_flag:
            if flag["separator"]:
                if flag["value"] and not is_harmless(flag["value"]):
                    yield index, flag.start("value"), len(word)
            else:
                expects = "secret"
        elif ambiguous := _AMBIGUOUS.fullmatch(word):
            if not ambiguous["value"]:
                expects = "likely"
            elif _LIKE_PASSWORD.fullmatch(ambiguous["value"]):
                yield index, *ambiguous.span("value")
        elif word in _LOGINS:
            expects, separators = "login", ":"
        elif (login := _LOGIN.fullmatch(word)) and (found := _value("login", login["value"], ":")):
            yield index, login.start("value") + found[0], len(word)
        elif glued := _GLUED.fullmatch(word):
            yield index, glued.start("value"), len(word)
        elif (assigned := _ASSIGNMENT.fullmatch(word.lstrip("-"))) and (
            is_secret_name(assigned["name"]) or _is_assigned(program, word, assigned)
        ):
            if not is_harmless(assigned["value"]):
                yield index, len(word) - len(assigned["value"]), len(word)
        elif program.names and is_secret_name(word) and "=" not in word:
            expects = "secret"


def values(arguments: Sequence[str]) -> Iterator[str]:
    """The secrets in the arguments of a process."""
    for index, start, end in spans(arguments):
        yield arguments[index][start:end]


def _command(arguments: Sequence[str], first: int) -> Sequence[str]:
    """The arguments from `first` up to the end of their command."""
    command = arguments[first : first + _LONGEST_COMMAND]
    end = next((at for at, word in enumerate(command) if word in _SEPARATORS), len(command))
    return command[:end]


def _last(command: Sequence[str], first: int) -> Iterator[Span]:
    if len(command) < 2 or command[-1].startswith("-") or _METHOD.fullmatch(command[-1]):
        return
    if not is_harmless(command[-1]):
        yield first + len(command) - 1, 0, len(command[-1])


def _is_assigned(program: _Program, word: str, assigned: re.Match[str]) -> bool:
    """Whether a program takes a secret in this `name=value`. A value with `@` is the name of a file."""
    if not program.assigned or word.startswith("-") or assigned["value"][0] in "@-":
        return False
    parts = set(words(assigned["name"]))
    is_open = is_setting(assigned["name"]) or bool(parts & _OPEN_FIELDS)
    return not (program.settings and is_open) or "secret" in parts


def _nth(command: Sequence[str], first: int, nth: int) -> Iterator[Span]:
    """The argument with this number that is no option, if the command has as many."""
    number = 0
    for at, word in enumerate(command):
        number += not word.startswith("-")
        if number == nth:
            if _value("secret", word, ""):
                yield first + at, 0, len(word)
            return


def _is_path(flag: re.Match[str]) -> bool:
    """Whether a slash begins a path and no option, as it does in `/password:X`."""
    return flag["dashes"] == "/" and flag["separator"] != ":"


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
            if len(flag) == 2 and flag[1] in program.grouped and _is_group(word, flag[1]):
                return kind, -1
    return None


def _is_group(word: str, letter: str) -> bool:
    """Whether a word has several flags, this one as the last."""
    return word[0] == "-" and word[1:].isalpha() and word[-1] == letter and len(word) <= _LONGEST_GROUP


def _value(kind: str, word: str, separators: str) -> tuple[int, int] | None:
    if kind == "login":
        at = min((word.find(each) for each in separators if each in word), default=-1)
        if at < 1 or (separators == ":" and _NO_PASSWORD.fullmatch(word[at + 1 :])) or at + 1 == len(word):
            return None
        return at + 1, len(word)
    # A backslash continues the line.
    if word in ("", "\\") or (word.startswith("-") and _FLAG.fullmatch(word) and words(word)):
        return None
    if _NOT_A_VALUE.fullmatch(word.lower().strip(".,:;")) or is_harmless(word):
        return None
    if kind == "likely" and not _LIKE_PASSWORD.fullmatch(word):
        return None
    return 0, len(word)
