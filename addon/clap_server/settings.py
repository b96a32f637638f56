"""What the server is told at its start: options of the command line, or environment variables."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path  # noqa: TC003 - read at run time by pydantic
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from clap_server.errors import ConfigurationError

GIGABYTE = 1_000_000_000


def default_data_dir() -> Path:
    """Folder for the server's data when none is named: the user's own data folder."""
    return platformdirs.user_data_path("clap-server", appauthor=False)


class ServerSettings(BaseSettings):
    """All settings; each is also an environment variable, ``CLAP_`` before its name in capitals.

    An empty variable counts as not set.
    """

    model_config = SettingsConfigDict(env_prefix="CLAP_", env_ignore_empty=True, extra="ignore", frozen=True)

    host: str = Field(default="0.0.0.0", description="address to listen on")
    port: int = Field(default=7860, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    ingress_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="second port, for Home Assistant's ingress alone; off if left out",
    )
    data: Path = Field(
        default_factory=default_data_dir, description="folder for events, clips, models and the token"
    )
    media: Path | None = Field(
        default=None, description="folder whose recordings may be microphones; none if left out"
    )
    model: str = Field(
        default="auto",
        min_length=1,
        description="'builtin' (downloads nothing), a folder, a Hugging Face name, or 'auto': the full CLAP"
        " (600 MB, downloaded) where half of the machine stays free, else the built-in model",
    )
    device: str = Field(default="auto", min_length=1, description="'auto', 'cpu', 'cuda' or 'cuda:0'")
    engine: str = Field(
        default="auto",
        min_length=1,
        description="what runs a downloaded model: 'torch', 'openvino', ..., or 'auto': the fastest here",
    )
    token: str | None = Field(
        default=None,
        min_length=8,
        max_length=512,
        pattern=r"^[\x21-\x7e]+$",
        description="access token, long and random; made at first start and kept if left out",
        repr=False,
    )
    trusted_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description=(
            "networks, such as 192.168.1.0/24, parted by commas, whose scripts may classify recordings and"
            " read states without a token; none if left out"
        ),
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="how much to log"
    )
    clip_retention_days: float = Field(default=30, gt=0, description="days that clips are kept")
    clip_max_gb: float = Field(default=5, gt=0, description="gigabytes that all clips may take")
    clip_max_count: int | None = Field(
        default=None, ge=1, description="clips that are kept in all; as many as fit if left out"
    )
    event_retention_days: float = Field(default=365, gt=0, description="days that events are kept")

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("trusted_networks", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        found = []
        for part in filter(None, (part.strip() for part in value.split(","))):
            try:
                found.append(ip_network(part))
            except ValueError:
                try:
                    meant = f": write {ip_network(part, strict=False)}"
                except ValueError:
                    meant = ": write it as 192.168.1.0/24, or one address as 192.168.1.7"
                raise ValueError(f"{part!r} is no network{meant}") from None
        return tuple(found)

    @field_validator("data", "media")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None


def load_settings(given: dict[str, Any]) -> ServerSettings:
    """Settings from ``given``, then the environment, then the defaults.

    Args:
        given: by field name; a None counts as not given.

    Raises:
        ConfigurationError: a value is not usable; says which and why.
    """
    try:
        return ServerSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = []
        for item in error.errors(include_input=False, include_url=False):
            name = str(item["loc"][0])
            problems.append(f"{option(name)} (or {variable(name)}): {item['msg']}")
        raise ConfigurationError("; ".join(problems)) from None


def option(name: str) -> str:
    """Name of a setting on the command line."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """Name of a setting in the environment."""
    return "CLAP_" + name.upper()
