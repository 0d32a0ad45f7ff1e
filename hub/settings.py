"""What the hub is told at its start: ``UPSTASH_*`` < ``fanwire.toml`` < ``FANWIRE_*`` < flags.

:class:`Settings` is frozen and complete; :func:`load_settings` puts it together and refuses
what it does not know, so that a misspelt key cannot silently mean the default. Every error
names the source and the key. Secrets are never shown: neither in errors nor in ``repr``.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Meta

from channels.catalogue import BUILT_IN, Catalogue
from channels.declaration import ChannelDeclaration, History
from channels.errors import SettingsError
from channels.ids import Id
from services.budgets.settings import BudgetSettings
from services.caching.settings import CacheSettings
from services.database.address import check_database_url
from services.limits.settings import LimitSettings
from services.store.endpoint import Endpoint
from services.store.rest_address import RestAddress, is_rest_url
from services.usage.settings import UsageSettings

__all__ = [
    "CONFIG_FILE",
    "MIN_SECRET_BYTES",
    "ChannelSettings",
    "Setting",
    "Settings",
    "is_loopback",
    "load_settings",
]

#: Read from the working directory when no other file is named.
CONFIG_FILE = "fanwire.toml"
#: HS256 is as strong as its key: 32 bytes, the size of the hash, as RFC 7518 demands.
MIN_SECRET_BYTES = 32

_ENV_PREFIX = "FANWIRE_"
#: ``FANWIRE_*`` that are not the hub's: the clients read them, and the path of the file.
_FOREIGN_ENV = {"FANWIRE_URL", "FANWIRE_TOKEN", "FANWIRE_CONFIG"}
#: Where an application on Upstash keeps an address and its token; the first address is read
#: when nothing of ours names one, and no token but its own.
_UPSTASH_ENV = (
    ("UPSTASH_REDIS_URL", "UPSTASH_REDIS_TOKEN"),
    ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"),
)
_SECRETS = {"api_key", "token_hmac_secret", "redis_token"}
#: Not even a wrong value of these is told: it may be a secret in the wrong place.
_UNSPEAKABLE = _SECRETS | {"redis_url", "database_url"}
_NOT_KEYS = {"sources"}
#: Said in the file only.
_TABLES = {"channels", "usage", "budgets", "limits", "cache"}

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_Count = Annotated[int, Meta(ge=1, le=10_000_000)]
_Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class ChannelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[channels]]`` table; means what :class:`ChannelDeclaration` says."""

    pattern: str
    root: str | None = None
    subscribe: str = "nobody"
    publish: str = "nobody"
    history: History = History()
    presence: bool = False
    join_leave: bool = False
    description: str = ""

    def declare(self) -> ChannelDeclaration:
        """Return the declaration; ``SettingsError`` when it makes no sense."""
        return ChannelDeclaration(
            self.pattern,
            root=self.root,
            subscribe=self.subscribe,
            publish=self.publish,
            history=self.history,
            presence=self.presence,
            join_leave=self.join_leave,
            description=self.description,
        )


class Setting(NamedTuple):
    """One line of ``fanwire config``: ``value`` is text, a secret masked."""

    name: str
    value: str
    source: str


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the hub is told. Durations are seconds, sizes bytes."""

    # Where it listens. Port 0 takes a free one.
    host: _Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8000
    #: Processes that share the port; each is a node of its own.
    workers: Annotated[int, Meta(ge=1, le=64)] = 1

    # State. Without a URL the hub runs a Valkey of its own on ``data_dir``.
    redis_url: _Text | None = None
    #: Opens an ``https://`` address, Upstash's REST API; other addresses carry a password.
    redis_token: _Text | None = None
    data_dir: _Text = ".fanwire"
    key_prefix: Id = "fw"
    #: ``sqlite:///path`` or ``postgresql://...``: people, workspaces and what they used. Without
    #: one a hub with a Valkey of its own keeps a file beside it; on somebody's Redis there is
    #: none, since a file of each machine would not be the same.
    database_url: _Text | None = None
    #: Whether the hub makes the tables, and changes them when it is newer, at its start.
    database_migrate: bool = True

    # Who may do what.
    #: Key of the server API; without one the API refuses everybody (unless insecure).
    api_key: _Text | None = None
    #: HS256 key of connection tokens; without one every token is refused (unless insecure).
    token_hmac_secret: _Text | None = None
    token_audience: _Text | None = None
    token_issuer: _Text | None = None
    #: A token that lives longer than this is refused: it could hardly be taken back.
    token_max_lifetime_s: Annotated[int, Meta(ge=1, le=366 * 86_400)] = 30 * 86_400
    #: Origins (``https://app.example.com``) of pages, besides the hub's own, that may connect.
    allowed_origins: tuple[str, ...] = ()
    #: Whether ``/metrics`` can be read without the API key. It tells how much goes on, but no
    #: name of a channel or user. Not open by itself on a loopback address, as health is: there
    #: a reverse proxy usually stands before the hub, and everybody's requests come from it.
    metrics_public: bool = False
    #: Everybody may do everything, on any channel. For development on one machine.
    insecure: bool = False

    # Limits. What one publication may carry, 64 KiB, is part of the protocol.
    max_connections: _Count = 10_000
    max_channels: Annotated[int, Meta(ge=1, le=10_000)] = 128
    #: What a slow reader may owe before its connection is ended.
    outbox_bytes: Annotated[int, Meta(ge=128 * 1024)] = 1024 * 1024
    max_api_body_bytes: Annotated[int, Meta(ge=1024)] = 1024 * 1024

    # Times.
    connect_timeout_s: _Seconds = 10.0
    ping_interval_s: _Seconds = 25.0
    pong_timeout_s: _Seconds = 10.0
    sse_heartbeat_s: _Seconds = 15.0
    #: A reader that takes nothing for so long is gone.
    send_timeout_s: _Seconds = 10.0
    #: How long clients have to leave after they were told to, before they are cut off.
    shutdown_grace_s: _Seconds = 5.0
    node_report_s: _Seconds = 2.0

    # How it speaks about itself.
    node_name: Annotated[str, Meta(max_length=64)] = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: ``auto`` is ``console`` on a terminal and ``json`` elsewhere.
    log_format: Literal["auto", "console", "json"] = "auto"

    # Tables: how the services behave.
    usage: UsageSettings = UsageSettings()
    budgets: BudgetSettings = BudgetSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    #: ``[[channels]]``: what the operator declares besides the built-in channels.
    channels: tuple[ChannelSettings, ...] = ()

    #: Where each value that is not a default came from; no key of the file.
    sources: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Check what one field cannot say alone; raises ``SettingsError``."""
        self._check_access()
        self._check_redis_url()
        self._check_database_url()
        self.catalogue()

    def _check_access(self) -> None:
        if self.insecure and not is_loopback(self.host):
            raise SettingsError(
                f"insecure lets everybody do everything, so host must be a loopback address "
                f"such as 127.0.0.1; got {self.host!r}{self._told('host')}"
            )
        secret = self.token_hmac_secret
        if secret is not None and len(secret.encode("utf-8")) < MIN_SECRET_BYTES:
            raise SettingsError(
                f"token_hmac_secret must be at least {MIN_SECRET_BYTES} bytes; got "
                f"{len(secret.encode('utf-8'))}{self._told('token_hmac_secret')}"
            )
        for origin in self.allowed_origins:
            parts = urlsplit(origin)
            if origin != "*" and origin.lower() != f"{parts.scheme}://{parts.netloc}".lower():
                raise SettingsError(
                    "allowed_origins holds origins such as https://app.example.com, without a "
                    f"path; got {origin!r}{self._told('allowed_origins')}"
                )

    def _check_redis_url(self) -> None:
        told = self._told("redis_url")
        if self.redis_token is not None and not is_rest_url(self.redis_url or ""):
            raise SettingsError(
                "redis_token goes with a redis_url of https://, Upstash's REST API; other "
                f"addresses carry a password{self._told('redis_token')}"
            )
        if self.redis_url is None:
            return
        try:
            if is_rest_url(self.redis_url):
                RestAddress.from_url(self.redis_url, self.redis_token)
            else:
                Endpoint.from_url(self.redis_url)
        except SettingsError as error:
            raise SettingsError(f"redis_url: {error}{told}") from None

    def _check_database_url(self) -> None:
        if self.database_url is None:
            return
        try:
            check_database_url(self.database_url)
        except SettingsError as error:
            raise SettingsError(f"database_url: {error}{self._told('database_url')}") from None

    def catalogue(self) -> Catalogue:
        """Return the channels there are; ``SettingsError`` when a declaration makes no sense."""
        declared = []
        for index, channel in enumerate(self.channels):
            try:
                declared.append(channel.declare())
            except SettingsError as error:
                where = f"channels[{index}]"
                raise SettingsError(f"{where}: {error}{self._told('channels')}") from None
        return Catalogue([*BUILT_IN, *declared], allow_undeclared=self.insecure)

    def with_embedded_server(self, url: str) -> Settings:
        """Return the same settings on the hub's own Valkey at ``url``, and a file beside it."""
        source = "the embedded server"
        told = {"redis_url": url}
        if self.database_url is None:
            path = Path(self.data_dir).absolute() / "fanwire.db"
            told["database_url"] = f"sqlite:///{quote(str(path))}"
        sources = {**self.sources, **dict.fromkeys(told, source)}
        return msgspec.structs.replace(self, **told, sources=sources)

    def _where(self) -> str:
        """Return where Redis is, without what opens it."""
        url = self.redis_url or ""
        if is_rest_url(url):
            return RestAddress.from_url(url, self.redis_token).url
        endpoint = Endpoint.from_url(url)
        return f"{urlsplit(url).scheme}://{endpoint.where} (database {endpoint.db})"

    def _told(self, name: str) -> str:
        source = self.sources.get(name)
        return f" (from {source})" if source else ""

    @property
    def log_json(self) -> bool | None:
        """Whether logs are JSON; None to look whether anybody watches."""
        return {"auto": None, "console": False, "json": True}[self.log_format]

    def rows(self) -> Iterator[Setting]:
        """Yield every setting as people may see it."""
        for name in _FIELDS:
            value = getattr(self, name)
            if value is not None and name in _SECRETS:
                text = "(set)"
            elif name == "redis_url" and value is not None:
                text = self._where()
            elif name == "database_url" and value is not None:
                text = _without_password(value)
            elif name == "channels":
                text = ", ".join(channel.pattern for channel in value)
            elif name in _TABLES:
                text = msgspec.json.encode(value).decode()
            else:
                text = "" if value is None else _text_of(value)
            yield Setting(name, text, self.sources.get(name, "default"))

    def __repr__(self) -> str:
        told = ", ".join(
            f"{row.name}={row.value}" for row in self.rows() if row.source != "default"
        )
        return f"Settings({told})"


_FIELDS = {
    field.name: field for field in msgspec.structs.fields(Settings) if field.name not in _NOT_KEYS
}


def _text_of(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _without_password(url: str) -> str:
    """Return where the database is, without what opens it."""
    parts = urlsplit(url)
    if parts.scheme.startswith("sqlite"):
        return url
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def is_loopback(host: str) -> bool:
    """Return whether ``host`` can be reached from this machine only."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def load_settings(
    config_path: str | Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
) -> Settings:
    """Return the settings; a later source overrides an earlier one key by key.

    ``config_path`` None reads ``FANWIRE_CONFIG``, else ``fanwire.toml`` where there is one.
    ``flags`` are named like the settings; one that is None was not given. An empty variable
    counts as not set.

    Raises:
        SettingsError: a key is unknown, a value is wrong, or a file cannot be read.
    """
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    layers: dict[str, int] = {}
    for layer, found in enumerate(
        (
            _from_upstash(environ),
            _from_file(config_path, environ),
            _from_environ(environ),
            _from_flags(flags),
        )
    ):
        for name, value, source in found:
            values[name], sources[name], layers[name] = value, source, layer
    if _is_orphan(values, layers):
        del values["redis_token"], sources["redis_token"]
    return Settings(**values, sources=sources)  # type: ignore[arg-type]  # each was converted


_Found = tuple[str, object, str]


def _from_upstash(environ: Mapping[str, str]) -> Iterator[_Found]:
    for url_variable, token_variable in _UPSTASH_ENV:
        if url := environ.get(url_variable):
            yield "redis_url", url, url_variable
            token = environ.get(token_variable)
            if token and is_rest_url(url):
                yield "redis_token", token, token_variable
            return


def _is_orphan(values: Mapping[str, object], layers: Mapping[str, int]) -> bool:
    """Tell whether the token belongs to an address that a later source replaced.

    Upstash's own is sent to no other address; any is in the way of one that takes none.
    """
    if "redis_token" not in values or layers["redis_token"] >= layers.get("redis_url", 0):
        return False
    return layers["redis_token"] == 0 or not is_rest_url(str(values["redis_url"]))


def _from_file(config_path: str | Path | None, environ: Mapping[str, str]) -> Iterator[_Found]:
    named = config_path or environ.get("FANWIRE_CONFIG")
    path = Path(named or CONFIG_FILE)
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsError(f"expected a configuration file at {path}; there is none") from None
        return
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    for key, value in table.items():
        _check_known(key, _FIELDS, str(path))
        yield key, _convert(key, value, str(path), strict=True), str(path)


def _from_environ(environ: Mapping[str, str]) -> Iterator[_Found]:
    known = {_ENV_PREFIX + name.upper(): name for name in _FIELDS if name not in _TABLES}
    for variable, text in environ.items():
        if not variable.startswith(_ENV_PREFIX) or variable in _FOREIGN_ENV or not text:
            continue
        _check_known(variable, known, "the environment")
        name = known[variable]
        value: object = text
        if name == "allowed_origins":
            value = [origin.strip() for origin in text.split(",")]
        yield name, _convert(name, value, variable, strict=False), variable


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Found]:
    for name, value in flags.items():
        if value is None or value == ():
            continue
        source = "--" + name.replace("_", "-")
        _check_known(name, _FIELDS, "the flags")
        yield name, _convert(name, value, source, strict=False), source


def _check_known(key: str, known: Iterable[str], source: str) -> None:
    names = list(known)
    if key in names:
        return
    near = difflib.get_close_matches(key, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names)}"
    raise SettingsError(f"unknown setting {key!r} in {source}: {hint}")


def _convert(name: str, value: object, source: str, *, strict: bool) -> object:
    try:
        return msgspec.convert(value, _FIELDS[name].type, strict=strict)
    except SettingsError as error:  # what one field of a table cannot say alone
        raise SettingsError(f"{source}: {name}: {error}") from None
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        where = name + path.rstrip("`")
        what = what[:1].lower() + what[1:]
        if choices := get_args(_FIELDS[name].type) if what.startswith("invalid enum") else ():
            what = f"expected one of {', '.join(choices)}"
        if not path and name not in _UNSPEAKABLE:
            what = f"{what.partition(', got ')[0]}; got {str(value)[:80]!r}"
        raise SettingsError(f"{source}: {where}: {what}") from None
