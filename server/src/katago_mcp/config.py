"""The configuration: schema, file and environment overrides. All problems are reported together."""

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from katago_mcp import access, proxies
from katago_mcp.shared_address import AddressError, endpoint

DEFAULT_PATH = Path("/etc/katago-mcp/config.json")
"""The configuration file used without `--config`."""

MANIFEST = "manifest.json"
"""The file that marks the configuration's directory as a release."""

LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]


class ConfigError(Exception):
    """The configuration is not valid.

    `problems` lists all problems, one line each, with key, value and fix.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Section(BaseModel):
    """One section of the file: camelCase keys, no type coercion, no unknown keys."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class Server(Section):
    """Where MCP, health and admin endpoints are served. Times in seconds."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on. Any address other than loopback requires tokens."""
    port: Port = 8080
    """Port of MCP, probes and admin endpoints."""
    allowed_hosts: list[str] = []
    """Allowed `Host` names besides loopback, as clients use them: `name` or `name:*` for every port,
    `name:port` for one.
    """
    allowed_origins: list[str] = []
    """Allowed browser origins besides loopback: `https://name`, `https://name:port` or `https://name:*`.
    """
    trusted_proxies: list[str] = []
    """Addresses and networks of load balancers, such as `10.0.0.5` or `10.0.0.0/24`. Only from these peers
    the server takes the address of the client from `X-Forwarded-For`, for its log.
    """
    structured_content: bool = True
    """Send structured content and publish output schemas. A client can choose with `?content=text` or
    `?content=all` in its address.
    """
    drain_timeout_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 20
    """Time for running analyses to finish after SIGTERM."""
    max_queued: Annotated[int, Field(ge=0, le=100_000)] = 64
    """Maximum number of waiting analyses. A caller without a waiting analysis is still admitted."""
    max_wait_seconds: Seconds = 120
    """Maximum wait of an analysis before it is rejected. A review waits within its own `maxTime`."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """Maximum open connections of all clients. A lower limit of file descriptors lowers it."""
    max_connections_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = 3072
    """Maximum open connections of one client address, at most 3/4 of all. A load balancer is one address."""
    header_timeout_seconds: Seconds = 10
    """Time for a client to send the header of a request. Its TLS handshake has as much."""
    body_timeout_seconds: Seconds = 60
    """Time for a client to send the body of a request."""
    max_sessions: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Maximum open sessions of all clients. Clients of protocol 2026-07-28 have no sessions."""
    max_sessions_per_token: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Maximum open sessions of one token. Without tokens, all clients share this limit."""
    session_idle_seconds: Seconds = 1800
    """Time until a session without requests or open streams ends. A change applies to new sessions."""
    session_lifetime_seconds: Seconds = 86400
    """Time after its start in which a session can continue after a restart, or on another host with the
    same key.
    """


class Katago(Section):
    """The engine: its files, limits and restarts. Times in seconds."""

    binary_path: Path
    """KataGo's executable."""
    model_path: Path
    """The neural network."""
    human_model_path: Path | None = None
    """A network trained on human games, for `humanSLProfile`; null: none."""
    config_path: Path
    """KataGo's analysis configuration."""
    home_data_dir: Path | None = None
    """KataGo's `homeDataDir`, which stores tuning results; null: KataGo's default."""
    max_visits: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Maximum visits of one analysis."""
    default_visits: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    """Visits of an analysis that does not set `maxVisits`."""
    max_time: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 30
    """Maximum and default time of one analysis."""
    max_review_visits: Annotated[int, Field(ge=1, le=1_000_000_000)] = 200_000
    """Maximum visits of one review, all turns together."""
    max_review_time: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = 900
    """Maximum and default time of one review."""
    max_concurrent: Annotated[int, Field(ge=1, le=1024)] = 2
    """Concurrent analyses in the engine. Set it to `numAnalysisThreads` of KataGo's configuration."""
    start_timeout_seconds: Seconds = 60
    """Time without progress after which a start fails: no output, no CPU time used or waited for."""
    tuning_timeout_seconds: Seconds = 7200
    """Maximum time of a start with progress, including tuning and building caches."""
    restart_backoff_seconds: Seconds = 1
    """Wait before the first restart. It doubles with each failure."""
    restart_backoff_max_seconds: Seconds = 60
    """Maximum wait before a restart."""
    restart_budget: Annotated[int, Field(ge=1, le=1000)] = 5
    """Failures within the window; after more, every wait is the maximum."""
    restart_window_seconds: Seconds = 300
    """Length of the window in which failures count."""


class Cache(Section):
    """The cache of answers on disk. Sizes in bytes, times in seconds."""

    enabled: bool = True
    """Enable the cache."""
    directory: Path = Path("/var/cache/katago-mcp")
    """Directory of the cache."""
    max_items: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Maximum number of cached answers."""
    max_size_bytes: Annotated[int, Field(ge=65_536)] = 268_435_456
    """Maximum size of the cached answers."""
    ttl_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 604_800
    """Lifetime of a cached answer."""


class SharedCache(Section):
    """A cache of answers in Valkey or Redis, which several hosts share. Without it, each host has its own.

    Its entries are signed with a key that is derived from the first key of `auth.sessionKeyFile`: hosts with
    the same key share answers. It needs `cache.enabled`. Times in seconds.
    """

    url: str | None = None
    """Address, without a password: `redis://HOST:PORT/DATABASE`, `rediss://` for TLS, or `unix:///PATH`. A
    user is written as `redis://USER@HOST:PORT`. Null: no shared cache.
    """
    password_file: Path | None = None
    """File with the password, read for each connection; null: systemd's credential `shared-cache.password`,
    or no password if it does not exist.
    """
    ca_file: Path | None = None
    """Certificates in PEM that may sign the certificate of the cache; null: those of the system."""
    timeout_seconds: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.2
    """Time to wait for an answer of the shared cache. Then the analysis continues without it."""


class Logging(Section):
    """Logging to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of logged events."""
    format: Literal["json", "text"] = "json"
    """JSON lines, or human-readable text."""


class Metrics(Section):
    """The endpoint for Prometheus."""

    enabled: bool = True
    """Enable the metrics port."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on."""
    port: Port = 9090
    """Port to listen on."""


class Health(Section):
    """Heartbeats of the engine. Times in seconds."""

    heartbeat_interval_seconds: Seconds = 2
    """Interval of heartbeats to the engine."""
    heartbeat_timeout_seconds: Seconds = 10
    """Time without an answer to a heartbeat after which the engine is hung and is replaced."""


class RateLimit(Section):
    """Rate limit: a token bucket for every bearer token."""

    enabled: bool = False
    """Enable the rate limit."""
    requests_per_minute: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = 120
    """Calls per minute of one token."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """Maximum number of calls in a burst."""


class Auth(Section):
    """Bearer tokens, and the key that signs the ids of sessions."""

    tokens_file: Path | None = None
    """JSON file with the bearer tokens, read again when it changes; null: systemd's credential
    `tokens.json`, if it exists.
    """
    session_key_file: Path | None = None
    """File with the key that signs ids of sessions, or with several keys, one a line: the first one signs.
    Null, or if the file does not exist: a random key, and sessions end with the process.
    """


class Tls(Section):
    """TLS for the MCP, health and admin endpoints."""

    enabled: bool = False
    """Serve the main port over TLS 1.2 or newer. The metrics port stays plain HTTP."""
    certificate_file: Path | None = None
    """Certificate with its chain in PEM; null: `tls.crt` in systemd's `$CREDENTIALS_DIRECTORY`.
    A reload reads it again.
    """
    key_file: Path | None = None
    """Private key in PEM without a password; null: `tls.key` in systemd's `$CREDENTIALS_DIRECTORY`."""


class Config(Section):
    """The whole file. Only the section `katago` has required keys."""

    server: Server = Server()
    katago: Katago
    cache: Cache = Cache()
    shared_cache: SharedCache = SharedCache()
    logging: Logging = Logging()
    metrics: Metrics = Metrics()
    health: Health = Health()
    rate_limit: RateLimit = RateLimit()
    auth: Auth = Auth()
    tls: Tls = Tls()


SECTIONS: dict[str, type[Section]] = {
    "server": Server,
    "katago": Katago,
    "cache": Cache,
    "sharedCache": SharedCache,
    "logging": Logging,
    "metrics": Metrics,
    "health": Health,
    "rateLimit": RateLimit,
    "auth": Auth,
    "tls": Tls,
}


KEYS: dict[str, tuple[str, str]] = {
    f"{section.alias}.{field.alias}": (name, attribute)
    for name, section in Config.model_fields.items()
    for attribute, field in SECTIONS[str(section.alias)].model_fields.items()
}
"""Every key as written in the file, such as `katago.maxVisits`, with its section and attribute."""


def value_of(config: Config, key: str) -> Any:
    """The value of a key of `KEYS`."""
    section, attribute = KEYS[key]
    return getattr(getattr(config, section), attribute)


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy with other values for some keys of `KEYS`. The values are not validated."""
    for key, value in values.items():
        section, attribute = KEYS[key]
        changed = getattr(config, section).model_copy(update={attribute: value})
        config = config.model_copy(update={section: changed})
    return config


@dataclass(frozen=True)
class Loaded:
    """A valid configuration and where it came from.

    `directory` is the real directory of the file, against which relative paths were resolved.
    `release` is that directory's name if it holds a manifest, else None.
    `tokens_file` is None if no tokens are configured; `tls` is None without TLS.
    """

    config: Config
    path: Path
    directory: Path
    release: str | None
    tokens_file: Path | None
    tls: "TlsFiles | None"


@dataclass(frozen=True)
class TlsFiles:
    """Paths of the server's certificate (with its chain) and private key, both in PEM."""

    certificate: Path
    key: Path


def load(path: Path, environ: Mapping[str, str], *, serving: bool = True) -> Loaded:
    """Read the file, apply `KATAGO_<SECTION>_<KEY>` overrides, validate.

    `serving`: whether the server will listen, which may require tokens and a certificate.

    Raises:
        ConfigError: with all problems of the file and the environment.
    """
    real = Path(os.path.realpath(path))
    document = read_object(
        path, absent="pass a readable file with --config", shape=f"with the sections {_list(SECTIONS)}"
    )
    problems = _override(document, environ)
    config: Config | None = None
    try:
        config = Config.model_validate_json(json.dumps(document), by_alias=True, by_name=False)
    except ValidationError as error:
        problems += [_explain(dict(detail)) for detail in error.errors(include_url=False)]
    if config is None or problems:
        raise ConfigError(problems)
    config = _resolve(config, real.parent)
    tokens_file = _tokens_file(config, environ)
    tls, missing = _tls_files(config, environ)
    problems = [*_contradictions(config, tokens_file), *missing] if serving else []
    if problems:
        raise ConfigError(problems)
    release = real.parent.name if (real.parent / MANIFEST).is_file() else None
    return Loaded(config, path, real.parent, release, tokens_file, tls)


def release_of(path: Path) -> str | None:
    """The release of the file at `path`, which need not be readable; None if it is in no release."""
    directory = Path(os.path.realpath(path)).parent
    return directory.name if (directory / MANIFEST).is_file() else None


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable only from this host."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_object(path: Path, *, absent: str, shape: str) -> dict[str, Any]:
    """The JSON object in a file.

    `absent` is the fix shown if the file cannot be read; `shape` describes the expected object.

    Raises:
        ConfigError: if the file cannot be read, or is not one JSON object in UTF-8 without NaN and
            without duplicate keys.
    """

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        duplicates = sorted({key for key in keys if keys.count(key) > 1})
        if duplicates:
            raise ConfigError([f"{path}: key {duplicates[0]!r} occurs twice: remove one of them"])
        return dict(pairs)

    def refuse_constant(name: str) -> NoReturn:
        raise ConfigError([f"{path}: {name} is not valid JSON: use a finite number"])

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror}): {absent}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            [f"{path}: byte {error.start} is not valid UTF-8: save the file as UTF-8"]
        ) from error
    try:
        document = json.loads(text, object_pairs_hook=refuse_duplicates, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno} column {error.colno}: {error.msg}"
        else:
            where = "it is nested too deeply, or a number has too many digits"
        raise ConfigError([f"{path}: is not valid JSON, {where}: correct the syntax"]) from error
    if not isinstance(document, dict):
        raise ConfigError([f"{path}: must contain a JSON object {shape}"])
    return document


def variable_of(section: str, key: str) -> str:
    """The environment variable that overrides a key."""
    return "_".join(["KATAGO", _snake(section), _snake(key)])


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def _override(document: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    variables: dict[str, tuple[str, str, Any]] = {
        variable_of(section, field.alias or name): (section, field.alias or name, field.annotation)
        for section, model in SECTIONS.items()
        for name, field in model.model_fields.items()
    }
    prefixes = tuple(f"KATAGO_{_snake(section)}_" for section in SECTIONS)
    problems = []
    for variable in sorted(environ):
        if not variable.startswith(prefixes):
            continue
        if variable not in variables:
            nearest = difflib.get_close_matches(variable, variables, n=1, cutoff=0)[0]
            problems.append(f"{variable}: unknown environment variable: did you mean {nearest}?")
            continue
        section, key, annotation = variables[variable]
        target = document.setdefault(section, {})
        if isinstance(target, dict):
            target[key] = _from_text(environ[variable], annotation)
    return problems


def _from_text(text: str, annotation: object) -> object:
    """Convert a variable's text to a field's type. Invalid text stays text, and the schema rejects it."""
    arms = {annotation, *get_args(annotation)}
    if text == "" and type(None) in arms:
        return None
    if bool in arms:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if int in arms or float in arms:
        try:
            return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
        except ValueError:
            return text
    if annotation == list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _explain(detail: dict[str, Any]) -> str:
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location)
    if detail["type"] == "extra_forbidden":
        model = SECTIONS[location[0]] if len(location) > 1 else Config
        keys = [field.alias or name for name, field in model.model_fields.items()]
        lowered = {name.lower(): name for name in keys}
        unknown = location[-1].replace("_", "").lower()
        nearest = lowered[difflib.get_close_matches(unknown, lowered, n=1, cutoff=0)[0]]
        return f"{key}: unknown key: did you mean {nearest!r}? known keys: {_list(keys)}"
    if detail["type"] == "missing":
        return f"{key}: is required but missing: add it to the configuration"
    return f"{key}: {detail['input']!r} is not accepted: {detail['msg']}"


def _list(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(names)


def _resolve(config: Config, directory: Path) -> Config:
    def absolute(path: Path | None) -> Path | None:
        return None if path is None else directory / path

    katago = config.katago.model_copy(
        update={
            name: absolute(getattr(config.katago, name))
            for name in ("binary_path", "model_path", "human_model_path", "config_path", "home_data_dir")
        }
    )
    cache = config.cache.model_copy(update={"directory": absolute(config.cache.directory)})
    auth_files = {name: absolute(getattr(config.auth, name)) for name in ("tokens_file", "session_key_file")}
    auth = config.auth.model_copy(update=auth_files)
    files = {name: absolute(getattr(config.tls, name)) for name in ("certificate_file", "key_file")}
    tls = config.tls.model_copy(update=files)
    shared_files = {
        name: absolute(getattr(config.shared_cache, name)) for name in ("password_file", "ca_file")
    }
    shared_cache = config.shared_cache.model_copy(update=shared_files)
    return config.model_copy(
        update={
            "katago": katago,
            "cache": cache,
            "shared_cache": shared_cache,
            "auth": auth,
            "tls": tls,
        }
    )


def _tokens_file(config: Config, environ: Mapping[str, str]) -> Path | None:
    if config.auth.tokens_file is not None:
        return config.auth.tokens_file
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / "tokens.json").is_file():
        return Path(credentials) / "tokens.json"
    return None


def _tls_files(config: Config, environ: Mapping[str, str]) -> tuple[TlsFiles | None, list[str]]:
    tls = config.tls
    if not tls.enabled:
        return None, []
    paths: dict[str, Path] = {}
    problems = []
    for key, configured, credential in (
        ("certificateFile", tls.certificate_file, "tls.crt"),
        ("keyFile", tls.key_file, "tls.key"),
    ):
        directory = environ.get("CREDENTIALS_DIRECTORY")
        path = configured or (Path(directory) / credential if directory else None)
        if path is None:
            problems.append(
                f"tls.{key}: is missing although tls.enabled is true: set it, or pass the systemd credential "
                f"{credential}"
            )
        else:
            paths[key] = path
    if problems:
        return None, problems
    return TlsFiles(paths["certificateFile"], paths["keyFile"]), []


def _contradictions(config: Config, tokens_file: Path | None) -> list[str]:
    problems = []
    katago, server, metrics = config.katago, config.server, config.metrics
    if katago.default_visits > katago.max_visits:
        problems.append(
            f"katago.defaultVisits: {katago.default_visits} is above katago.maxVisits "
            f"{katago.max_visits}: lower one or raise the other"
        )
    if katago.restart_backoff_seconds > katago.restart_backoff_max_seconds:
        problems.append(
            f"katago.restartBackoffSeconds: {katago.restart_backoff_seconds:g} is above "
            f"katago.restartBackoffMaxSeconds {katago.restart_backoff_max_seconds:g}: "
            "lower one or raise the other"
        )
    if server.max_sessions_per_token > server.max_sessions:
        problems.append(
            f"server.maxSessionsPerToken: {server.max_sessions_per_token} is above server.maxSessions "
            f"{server.max_sessions}: lower one or raise the other"
        )
    if metrics.enabled and metrics.port == server.port:
        problems.append(f"metrics.port: {metrics.port} is also server.port: choose another port")
    if not is_loopback(server.host) and tokens_file is None:
        problems.append(
            f"server.host: {server.host!r} is not a loopback address and no token is configured: set "
            "auth.tokensFile (or the systemd credential tokens.json), or use 127.0.0.1"
        )
    problems += _shared_cache_problems(config)
    readers: tuple[tuple[str, list[str], Callable[[str], object]], ...] = (
        ("allowedHosts", server.allowed_hosts, access.authority),
        ("allowedOrigins", server.allowed_origins, access.origin),
    )
    for key, entries, read in readers:
        for entry in entries:
            if read(entry) is None:
                example = "'https://go.example.org'" if key == "allowedOrigins" else "'go.example.org:*'"
                problems.append(
                    f"server.{key}: {entry!r} is not accepted: use an explicit name "
                    f"such as {example} ('*' is allowed only as the port)"
                )
    problems += [
        f"server.trustedProxies: {entry!r} is not accepted: use an IP address, or a network without host "
        "bits such as '10.0.0.0/24'"
        for entry in server.trusted_proxies
        if proxies.network(entry) is None
    ]
    return problems


def _shared_cache_problems(config: Config) -> list[str]:
    shared = config.shared_cache
    if shared.url is None:
        return []
    problems = []
    try:
        address = endpoint(shared.url)
    except AddressError as error:
        # The address may contain a password, so it is not repeated.
        problems.append(f"sharedCache.url: {error}")
    else:
        if shared.ca_file is not None and not address.tls:
            problems.append("sharedCache.caFile: the address has no TLS: write rediss:// in sharedCache.url")
    if not config.cache.enabled:
        problems.append(
            "sharedCache.url: the cache is disabled: set cache.enabled, or remove sharedCache.url"
        )
    if config.auth.session_key_file is None:
        problems.append(
            "sharedCache.url: there is no key to verify its entries with: set auth.sessionKeyFile, with the "
            "same key on all hosts"
        )
    return problems
