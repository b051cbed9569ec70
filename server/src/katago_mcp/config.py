"""The configuration: schema, file, environment overrides, and every problem in them at once."""

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

DEFAULT_PATH = Path("/etc/katago-mcp/config.json")
"""Where the configuration is looked for when no `--config` is given."""

MANIFEST = "manifest.json"
"""The file that marks the directory of a configuration as a release."""

LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]


class ConfigError(Exception):
    """The configuration cannot be used.

    `problems` holds every problem, one line each, naming key, value and remedy.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Section(BaseModel):
    """One section of the file: camelCase keys, no coercion, no unknown key."""

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
    """Address to listen on. Any other than the loopback's needs tokens."""
    port: Port = 8080
    """Port of MCP, probes and admin endpoints."""
    allowed_hosts: list[str] = []
    """Host names under which clients may call, beyond the loopback's: `name` (no port), `name:port` or
    `name:*`. Behind a balancer, the names that clients use.
    """
    allowed_origins: list[str] = []
    """Origins of browsers that may call, beyond the loopback's: `https://name`, `https://name:port` or
    `https://name:*`.
    """
    drain_timeout_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 20
    """How long running analyses may finish after SIGTERM."""
    max_queued: Annotated[int, Field(ge=0, le=100_000)] = 64
    """Analyses that may wait for the engine; a caller of whom nothing waits is still let in."""
    max_wait_seconds: Seconds = 120
    """How long an analysis may wait for its turn until it is refused; a review waits within its `maxTime`."""
    max_sessions: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Sessions that all clients together may have open; clients of protocol 2026-07-28 have none."""
    max_sessions_per_token: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Sessions that the clients of one token may have open; without tokens, all clients are one."""
    session_idle_seconds: Seconds = 1800
    """How long a session without a request or an open stream stays; a change is for those opened later."""


class Katago(Section):
    """The engine, its files, its limits and how it is restarted. Times in seconds."""

    binary_path: Path
    """KataGo's program."""
    model_path: Path
    """The neural network."""
    human_model_path: Path | None = None
    """A network trained on human games, for `humanSLProfile`; null: there is none."""
    config_path: Path
    """KataGo's analysis configuration."""
    home_data_dir: Path | None = None
    """KataGo's `homeDataDir`, where tuning results are kept; null: KataGo's own choice."""
    max_visits: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Visits that one analysis may ask for."""
    default_visits: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    """Visits of an analysis that asks for none."""
    max_time: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 30
    """Seconds that one analysis may ask for, and gets when it asks for none."""
    max_review_visits: Annotated[int, Field(ge=1, le=1_000_000_000)] = 200_000
    """Visits of all turns of one review together."""
    max_review_time: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = 900
    """Seconds that one review may ask for, and gets when it asks for none."""
    max_concurrent: Annotated[int, Field(ge=1, le=1024)] = 2
    """Analyses in the engine at a time; match `numAnalysisThreads` of its configuration."""
    start_timeout_seconds: Seconds = 60
    """How long a starting engine may show no progress: no line, no processor time, none waited for."""
    tuning_timeout_seconds: Seconds = 7200
    """The longest a start may take, tuning and the building of caches included, though it shows progress."""
    restart_backoff_seconds: Seconds = 1
    """Wait before the first restart; doubled with each failure."""
    restart_backoff_max_seconds: Seconds = 60
    """The longest wait before a restart."""
    restart_budget: Annotated[int, Field(ge=1, le=1000)] = 5
    """Failures within the window after which every wait is the longest."""
    restart_window_seconds: Seconds = 300
    """The window in which failures count."""


class Cache(Section):
    """Answers kept on disk. Sizes in bytes, times in seconds."""

    enabled: bool = True
    """Whether answers are kept."""
    directory: Path = Path("/var/cache/katago-mcp")
    """Where they are kept."""
    max_items: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Answers kept at most."""
    max_size_bytes: Annotated[int, Field(ge=65_536)] = 268_435_456
    """Their size at most."""
    ttl_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 604_800
    """How long an answer is kept."""


class Logging(Section):
    """What is written to stderr, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious level that is written."""
    format: Literal["json", "text"] = "json"
    """JSON lines, or text for people."""


class Metrics(Section):
    """Where Prometheus scrapes."""

    enabled: bool = True
    """Whether there is a metrics port."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on."""
    port: Port = 9090
    """Port to listen on."""


class Health(Section):
    """How often the engine is asked for a sign of life, and how long it may take. Seconds."""

    heartbeat_interval_seconds: Seconds = 2
    """How often the engine is asked for a sign of life."""
    heartbeat_timeout_seconds: Seconds = 10
    """How long it may take before it counts as hung and is replaced."""


class RateLimit(Section):
    """A token bucket for every bearer token."""

    enabled: bool = False
    """Whether calls are limited."""
    requests_per_minute: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = 120
    """Calls of one token in a minute."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """Calls that a token may make at once after a rest."""


class Auth(Section):
    """Where the bearer tokens are. Null: `$CREDENTIALS_DIRECTORY/tokens.json` when it exists."""

    tokens_file: Path | None = None
    """JSON with the bearer tokens, read again when it changes; null: the credential `tokens.json` of
    systemd, if there is one.
    """


class Tls(Section):
    """Whether MCP, health and admin endpoints are served over TLS, and with what.

    Null paths: `tls.crt` (with the chain, if any) and `tls.key` in `$CREDENTIALS_DIRECTORY`.
    """

    enabled: bool = False
    """Serve the main port over TLS 1.2 and newer; the metrics stay plain."""
    certificate_file: Path | None = None
    """The certificate, with its chain, in PEM; null: `tls.crt` in systemd's credentials directory.
    A reload reads it again.
    """
    key_file: Path | None = None
    """Its key in PEM, without a password; null: `tls.key` in systemd's credentials directory."""


class Config(Section):
    """The whole file. `katago` is the only section without defaults for all of its keys."""

    server: Server = Server()
    katago: Katago
    cache: Cache = Cache()
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
"""Every key as the file has it, such as `katago.maxVisits`, and the attributes that lead to it."""


def value_of(config: Config, key: str) -> Any:
    """The value of a key of `KEYS`."""
    section, attribute = KEYS[key]
    return getattr(getattr(config, section), attribute)


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy with other values, which are not validated, for some keys of `KEYS`."""
    for key, value in values.items():
        section, attribute = KEYS[key]
        changed = getattr(config, section).model_copy(update={attribute: value})
        config = config.model_copy(update={section: changed})
    return config


@dataclass(frozen=True)
class Loaded:
    """A valid configuration and where it came from.

    `directory` is the real directory of the file, against which relative paths were resolved.
    `release` is that directory's name when it holds a manifest, else None.
    `tokens_file` is None when no token is configured, `tls` without TLS.
    """

    config: Config
    path: Path
    directory: Path
    release: str | None
    tokens_file: Path | None
    tls: "TlsFiles | None"


@dataclass(frozen=True)
class TlsFiles:
    """Where the server's certificate, with its chain, and its key are, both in PEM."""

    certificate: Path
    key: Path


def load(path: Path, environ: Mapping[str, str], *, serving: bool = True) -> Loaded:
    """Read the file, apply `KATAGO_<SECTION>_<KEY>` overrides, validate.

    `serving`: whether somebody will listen on its address, which may need tokens and a certificate.

    Raises:
        ConfigError: with all problems, if anything in the file or the environment is wrong.
    """
    real = Path(os.path.realpath(path))
    document = read_object(
        path, absent="give a readable file with --config", shape=f"with the sections {_list(SECTIONS)}"
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
    """The release that the file at `path` belongs to, readable or not; None outside of one."""
    directory = Path(os.path.realpath(path)).parent
    return directory.name if (directory / MANIFEST).is_file() else None


def is_loopback(host: str) -> bool:
    """Whether a bind address can be reached from this host only."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_object(path: Path, *, absent: str, shape: str) -> dict[str, Any]:
    """The JSON object in a file.

    `absent` is the remedy when the file cannot be read, `shape` says what the object holds.

    Raises:
        ConfigError: if the file cannot be read or is anything else than one object in UTF-8, without
            NaN and without a key given twice.
    """

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        doubled = sorted({key for key in keys if keys.count(key) > 1})
        if doubled:
            raise ConfigError([f"{path}: key {doubled[0]!r} occurs twice: keep one of them"])
        return dict(pairs)

    def refuse_constant(name: str) -> NoReturn:
        raise ConfigError([f"{path}: {name} is not JSON: write a finite number"])

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror}): {absent}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 at byte {error.start}: save it as UTF-8"]) from error
    try:
        document = json.loads(text, object_pairs_hook=refuse_duplicates, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno} column {error.colno}: {error.msg}"
        else:
            where = "nested too deeply, or with a number of thousands of digits"
        raise ConfigError([f"{path}: is not JSON, {where}: correct the syntax"]) from error
    if not isinstance(document, dict):
        raise ConfigError([f"{path}: must hold a JSON object {shape}"])
    return document


def variable_of(section: str, key: str) -> str:
    """The environment variable that overrides a key."""
    return "_".join(["KATAGO", _snake(section), _snake(key)])


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def _override(document: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    known: dict[str, tuple[str, str, Any]] = {
        variable_of(section, field.alias or name): (section, field.alias or name, field.annotation)
        for section, model in SECTIONS.items()
        for name, field in model.model_fields.items()
    }
    prefixes = tuple(f"KATAGO_{_snake(section)}_" for section in SECTIONS)
    problems = []
    for variable in sorted(environ):
        if not variable.startswith(prefixes):
            continue
        if variable not in known:
            nearest = difflib.get_close_matches(variable, known, n=1, cutoff=0)[0]
            problems.append(f"{variable}: unknown environment variable: did you mean {nearest}?")
            continue
        section, key, annotation = known[variable]
        target = document.setdefault(section, {})
        if isinstance(target, dict):
            target[key] = _from_text(environ[variable], annotation)
    return problems


def _from_text(text: str, annotation: object) -> object:
    """What a variable's text means for a field; text that does not fit is left for the schema."""
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
        known = [field.alias or name for name, field in model.model_fields.items()]
        lowered = {name.lower(): name for name in known}
        sought = location[-1].replace("_", "").lower()
        nearest = lowered[difflib.get_close_matches(sought, lowered, n=1, cutoff=0)[0]]
        return f"{key}: unknown key: did you mean {nearest!r}? known keys: {_list(known)}"
    if detail["type"] == "missing":
        return f"{key}: is missing: add it to the configuration"
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
    auth = config.auth.model_copy(update={"tokens_file": absolute(config.auth.tokens_file)})
    files = {name: absolute(getattr(config.tls, name)) for name in ("certificate_file", "key_file")}
    tls = config.tls.model_copy(update=files)
    return config.model_copy(update={"katago": katago, "cache": cache, "auth": auth, "tls": tls})


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
    found: dict[str, Path] = {}
    problems = []
    for key, given, credential in (
        ("certificateFile", tls.certificate_file, "tls.crt"),
        ("keyFile", tls.key_file, "tls.key"),
    ):
        directory = environ.get("CREDENTIALS_DIRECTORY")
        path = given or (Path(directory) / credential if directory else None)
        if path is None:
            problems.append(
                f"tls.{key}: is missing and tls.enabled is true: name the file, or pass the credential "
                f"{credential}"
            )
        else:
            found[key] = path
    if problems:
        return None, problems
    return TlsFiles(found["certificateFile"], found["keyFile"]), []


def _contradictions(config: Config, tokens_file: Path | None) -> list[str]:
    problems = []
    katago, server, metrics = config.katago, config.server, config.metrics
    if katago.default_visits > katago.max_visits:
        problems.append(
            f"katago.defaultVisits: {katago.default_visits} is above katago.maxVisits "
            f"{katago.max_visits}: lower the one or raise the other"
        )
    if katago.restart_backoff_seconds > katago.restart_backoff_max_seconds:
        problems.append(
            f"katago.restartBackoffSeconds: {katago.restart_backoff_seconds:g} is above "
            f"katago.restartBackoffMaxSeconds {katago.restart_backoff_max_seconds:g}: "
            "lower the one or raise the other"
        )
    if server.max_sessions_per_token > server.max_sessions:
        problems.append(
            f"server.maxSessionsPerToken: {server.max_sessions_per_token} is above server.maxSessions "
            f"{server.max_sessions}: lower the one or raise the other"
        )
    if metrics.enabled and metrics.port == server.port:
        problems.append(f"metrics.port: {metrics.port} is server.port too: choose another one")
    if not is_loopback(server.host) and tokens_file is None:
        problems.append(
            f"server.host: {server.host!r} is not loopback and no token is configured: set "
            "auth.tokensFile (or the credential tokens.json), or bind 127.0.0.1"
        )
    for key, entries in (
        ("allowedHosts", server.allowed_hosts),
        ("allowedOrigins", server.allowed_origins),
    ):
        for entry in entries:
            if not _allowed(entry, origin=key == "allowedOrigins"):
                example = "'https://go.example.org'" if key == "allowedOrigins" else "'go.example.org:*'"
                problems.append(
                    f"server.{key}: {entry!r} is not accepted: name one explicitly, "
                    f"such as {example} (a '*' may stand for the port only)"
                )
    return problems


def _allowed(entry: str, *, origin: bool) -> bool:
    scheme = r"https?://" if origin else ""
    return re.fullmatch(scheme + r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:(\d{1,5}|\*))?", entry) is not None
