"""Explains failures of restic: by its exit status, then its JSON messages, then the words of its errors.

restic 0.14 has only the exit statuses 1 and 3 for failures, and JSON messages only for a backup's files.
restic 0.18 repeats failed requests for minutes, so a command that was stopped may have printed the reason.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import redaction

_MAX_DETAIL = 400
_MOST_FILES = 5
_NO_SPACE = r"no space left on device|disk quota exceeded|not enough space"
# The most specific first; the first match decides. Upper and lower case are equal.
_ERROR_PATTERNS = (
    ("password", r"wrong password or no key found"),
    (
        "password_file",
        r"Resolving password failed|password file|an empty password is not a password"
        r"|RESTIC_PASSWORD_(?:FILE|COMMAND)",
    ),
    ("locked", r"already locked"),
    (
        "host_key",
        r"host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|host key is known for"
        r"|host key for \S+ has changed|authenticity of host |no matching host key type",
    ),
    (
        "clock",
        r"RequestTimeTooSkewed|difference between the request time and the (?:current|server's) time"
        r"|RequestExpired|Request date header too old|in a reasonable timeframe"
        r"|Request has expired|Signature (?:has )?expired|Signature not yet current"
        r"|not yet valid: current time \S+ is before|clock skew",
    ),
    (
        "certificate",
        r"x509: |tls: failed to verify|certificate (?:has expired|is not trusted|signed by unknown)"
        r"|server gave HTTP response to HTTPS client|remote error: tls: |tls: handshake failure"
        r"|first record does not look like a TLS handshake|tls: (?:no supported versions|server selected )"
        r"|CERTIFICATE_VERIFY_FAILED",
    ),
    (
        "limit",
        r"\((?:413|429)\)|\b(?:413 Request Entity|429 Too Many)|Too Many Requests|SlowDown|EntityTooLarge"
        r"|reduce your request rate|Request(?:Limit|Rate)Exceeded|TooManyRequests|503 Slow Down"
        r"|download cap exceeded"
        r"|rate limit(?:s? is| has been)? exceeded|rateLimitExceeded|quota exceeded for quota"
        r"|transaction.?cap.?exceeded|download_cap_exceeded|\(509\)|Bandwidth Limit Exceeded",
    ),
    (
        "full",
        rf"{_NO_SPACE}|\(507\)|over (?:its |your |the )?(?:disk |storage )?quota|no free inodes"
        r"|507 Insufficient Storage|StorageFull|QuotaExceeded|InsufficientCapacity"
        r"|(?:storage|bucket) quota|quota (?:has been |is )?exceeded|out of space|storage.cap.exceeded"
        r"|minimum free drive threshold|SSH_FX_(?:QUOTA_EXCEEDED|NO_SPACE_ON_FILESYSTEM)",
    ),
    ("sftp_failure", r"SSH_FX_FAILURE|sftp: \"?Failure"),
    (
        "damaged",
        r"Pack ID does not match|ciphertext verification failed|repository contains errors"
        r"|invalid data returned|pack \w+: does not exist|decrypting blob \S+ failed",
    ),
    ("read_only", r"read-only file ?system|SSH_FX_WRITE_PROTECT"),
    ("disk", r"input/output error|structure needs cleaning|stale (?:NFS )?file handle"),
    ("memory", r"cannot allocate memory|out of memory|signal: killed"),
    (
        "ssh",
        r"no matching (?:key exchange method|cipher|MAC|compression)|Too many authentication failures"
        r"|Bad configuration option|UNPROTECTED PRIVATE KEY FILE"
        r"|subsystem request failed|kex_exchange_identification|Bad owner or permissions on"
        r"|Load key \S+ (?:invalid format|error in libcrypto)",
    ),
    (
        "program",
        r"executable file not found|(?:fork/)?exec /\S+: no such file|didn't find section in config file",
    ),
    ("version", r"unsupported repository version"),
    (
        "region",
        r"PermanentRedirect|AuthorizationHeaderMalformed|must be addressed using the specified endpoint"
        r"|IllegalLocationConstraint|region '[^']*' is wrong",
    ),
    ("storage_class", r"InvalidObjectState|not valid for the object's storage class"),
    ("snapshot", r"no (?:matching ID|snapshot) found|no matching ID"),
    (
        "denied",
        r"permission denied|unauthorized|\((?:401|403|407)\)|SSH_FX_PERMISSION_DENIED|HTTP Error: 40[13]"
        r"|Proxy Authentication Required|KMS\.\w+Exception"
        r"|Access ?(?:is )?denied|InvalidAccessKeyId|SignatureDoesNotMatch|operation not permitted"
        r"|Access Key Id you provided does not exist|request signature we calculated does not match"
        r"|(?:security token|ExpiredToken|InvalidToken|AuthenticationFailed|AuthorizationFailure)"
        r"|forbidden|AllAccessDisabled|AccountProblem|bad_auth_token|invalid_grant",
    ),
    (
        "unreachable",
        r"connection refused|no such host|could not resolve|no route to host"
        r"|name or service not known|name resolution|host is down|no address associated with hostname"
        r"|network is unreachable|i/o timeout|timed out|server misbehaving|Client\.Timeout"
        r"|connection (?:reset|closed)|transport connection broken|server closed"
        r"|TLS handshake timeout|context deadline exceeded|broken pipe|\((?:408|5(?:0[0234]|2[0-7]))\)"
        r"|InternalError|ServiceUnavailable",
    ),
    (
        "absent",
        r"repository does not exist|(?:file|<config/>) does not exist"
        r"|no such file or directory|The specified (?:key|bucket|container) does not exist"
        r"|NoSuchBucket|ContainerNotFound|\(404\)|404 Not Found|SSH_FX_NO_SUCH_(?:FILE|PATH)",
    ),
)
# Follow other errors, so these decide only if nothing else does.
_CONSEQUENCES = (
    ("unreachable", r"unable to start the sftp session|\b(?:unexpected )?EOF\b"),
    ("absent", r"Is there a repository at the following location"),
)
# The kernel sends this signal when memory runs out.
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
_EXIT_STATUS = {3: "source", 10: "absent", 11: "locked", 12: "password"}
_MEANING = {
    "password": (
        "the password does not open the repository",
        "Correct backup_password. The repository was not changed.",
    ),
    "password_file": (
        "the password of the repository could not be read",
        "Set backup_password, then run `ansible-playbook playbooks/backup.yml`. The repository was not"
        " changed.",
    ),
    "locked": ("the repository is locked", "Wait until the other process finishes, or stop it."),
    "full": (
        "the repository has no space left",
        "Free space there, or keep fewer snapshots (backup_keep). Earlier snapshots were not changed.",
    ),
    "host_full": (
        "a disk of this host is full, not the repository",
        "Free space at the reported path. restic's temporary files are in backup_scratch_dir.",
    ),
    "sftp_failure": (
        "the SFTP server refused the operation without a reason; probably its disk or quota is full, or it"
        " does not permit writing",
        "Check free space, quota and permissions of the repository's directory there.",
    ),
    "read_only": (
        "a disk is read-only",
        "Read the kernel's log of the machine that has the reported path, repair the disk, and mount it"
        " writable. Earlier snapshots were not changed.",
    ),
    "disk": (
        "a disk failed while restic read or wrote it",
        "Read the kernel's log of the machine that has the reported path, and check that disk.",
    ),
    "memory": (
        "restic was killed, probably because this host has too little memory",
        "Free memory on this host, then run it again.",
    ),
    "ssh": (
        "the SSH server of the repository refused the session",
        "Run `sftp` to the repository's address on this host, and correct backup_ssh_private_key or"
        " the server's sshd_config.",
    ),
    "program": (
        "a program that the repository's address needs is missing on this host, or not configured",
        "Install the reported program on this host, and configure it for root.",
    ),
    "version": (
        "this restic does not know the version of the repository",
        "Install the version of restic that wrote it, or a newer one. The repository was not changed.",
    ),
    "region": (
        "the repository's bucket is in another region, or at another address",
        "Correct the address in backup_repository, or set AWS_DEFAULT_REGION in backup_environment.",
    ),
    "storage_class": (
        "files of the repository are in an archive from which they cannot be read at once",
        "Restore them there to a class with immediate access, and exclude the repository from such rules.",
    ),
    "host_key": (
        "the SSH host key of the repository's server is unknown or has changed",
        "Compare the server's key with `ssh-keyscan`, and correct backup_ssh_known_hosts only if the change"
        " was intended. Nothing was sent.",
    ),
    "clock": (
        "the clocks of this host and of the repository's server differ",
        "Compare `timedatectl` on both, and repair the time synchronization.",
    ),
    "certificate": (
        "the certificate of the repository's server was not accepted",
        "Renew it if it has expired, correct the name in backup_repository, or install its CA on this host"
        " (RESTIC_CACERT in backup_environment).",
    ),
    "limit": (
        "the repository's server limits requests or their size",
        "Run it again later. If it stays, raise the limit of the server or of its proxy (413: at least"
        " 128 MB).",
    ),
    "source": (
        "files of this host could not be read, so the snapshot is incomplete",
        "Repair their permissions or the disk, then run the backup again.",
    ),
    "damaged": (
        "the repository is damaged",
        "Check its disk. To start a new one, set another backup_repository; keep this one for recovery.",
    ),
    "snapshot": (
        "the snapshot does not exist",
        "To list snapshots, run `katago-backup snapshots` on the host.",
    ),
    "denied": ("the repository refused this host", "Correct the credentials, or the permissions there."),
    "unreachable": (
        "the repository cannot be reached",
        "Check the network and the repository's server, then run it again.",
    ),
    "absent": (
        "there is no repository",
        "Mount its disk, or correct backup_repository. To create a new one:"
        " `ansible-playbook playbooks/backup.yml`.",
    ),
    "unknown": ("restic failed", "Correct what restic reports, then run it again."),
}
KINDS = tuple(_MEANING)
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RETRY = re.compile(r"^\w+\(<[^>]*>\) (?:returned error, retrying after [^:]+|failed): ")
_FULL_PATH = re.compile(rf"(?:^|\s)(?P<path>/[^:\"]+): (?:{_NO_SPACE})", re.IGNORECASE)
_TEMPORARY = re.compile(r"/restic-(?:temp|check)[\w-]*")


class ResticError(Exception):
    """restic failed. The message says what happened and what to do.

    `kind`: a key of `_MEANING`. `detail`: restic's own error lines.
    """

    def __init__(self, kind: str, detail: str) -> None:
        meaning, remedy = _MEANING[kind]
        super().__init__(f"{meaning}: {detail}. {remedy}" if detail else f"{meaning}. {remedy}")
        self.kind = kind
        self.detail = detail


def classify_failure(returncode: int, text: str, *, local: str | None = None) -> str:
    """The kind of a failure, from restic's exit status and messages.

    `local`: the directory of a repository on this host; empty if it is elsewhere, None if unknown.
    """
    if kind := _EXIT_STATUS.get(returncode):
        return kind
    messages = list(_messages(text))
    # The message that ended the program decides before warnings.
    final = [message for message in messages if message.startswith("Fatal: ")]
    everything = "\n".join(messages)
    consequence = next(
        (kind for kind, pattern in _CONSEQUENCES if re.search(pattern, everything, re.IGNORECASE)), ""
    )
    consequence = consequence or ("memory" if returncode in _KILLED else "unknown")
    return _by_words("\n".join(final), local) or _by_words(everything, local) or consequence


def error_lines(text: str) -> str:
    """The lines of restic's output that describe the error, redacted and joined into one line."""
    messages = list(_messages(text))
    unread = [message for message in messages if message.startswith("cannot read ")]
    matching = [line for line in messages if _by_words(line, None)]
    chosen = (
        unread
        or matching
        or [line for line in messages if not line.startswith(("[", "using ", "create "))][-2:]
    )
    more = [f"and {len(unread) - _MOST_FILES} more"] if len(unread) > _MOST_FILES else []
    if unread:
        chosen = [*unread[:_MOST_FILES], *more]
    joined = redaction.plain("; ".join(dict.fromkeys(chosen)))
    return (
        joined if len(joined) <= _MAX_DETAIL else f"{joined[:_MAX_DETAIL].rpartition(' ')[0]} ..."
    ).rstrip(".")


def _by_words(text: str, local: str | None) -> str:
    for kind, pattern in _ERROR_PATTERNS:
        if re.search(pattern, text, re.IGNORECASE):
            return "host_full" if kind == "full" and _is_full_here(text, local) else kind
    return ""


def _is_full_here(text: str, local: str | None) -> bool:
    """Whether the full disk is one of this host on which the repository is not."""
    paths = [match["path"] for match in _FULL_PATH.finditer(text)]
    if local is None:
        return any(_TEMPORARY.search(path) for path in paths)
    return bool(paths) and not any(local and Path(path).is_relative_to(local) for path in paths)


def _messages(text: str) -> Iterator[str]:
    """The messages in restic's output: lines of text, and what its JSON messages say about errors."""
    for line in _COLOURS.sub("", text).splitlines():
        line = line.strip()
        if line.startswith("{"):
            yield from _of_json(line)
        elif line:
            yield _RETRY.sub("", line)


def _of_json(line: str) -> Iterator[str]:
    try:
        entry = json.loads(line)
    except ValueError:
        yield line
        return
    kind = entry.get("message_type")
    if kind == "exit_error":
        yield str(entry.get("message", ""))
    elif kind == "error":
        error = entry.get("error")
        reason = error.get("message") if isinstance(error, dict) else error
        item = entry.get("item") or ""
        if entry.get("during") == "archival":
            yield f"cannot read {item}" + (f" ({str(reason).removeprefix(f'{item}: ')})" if reason else "")
        else:
            yield f"{item}: {reason or error}".removeprefix(": ")
