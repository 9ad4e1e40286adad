"""Where things live. MEDFUSE_HOME (default ~/.medfuse) holds the library; nothing outside it and --out is written."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MEDFUSE_")

    home: Path = Field(default_factory=lambda: Path.home() / ".medfuse")
    database_url: str = ""
    letterhead: str = ""  # the institution's line at the head of a PDF
    header_timeout_s: float = 4.0  # one call: up to 64 headers
    decode_timeout_s: float = 8.0  # one call: a slice or a share of a cine; a second more for every SLOW_DISK bytes
    decode_memory_gib: float = 2.0
    viewer_cache_gib: float = 4.0  # encoded images under MEDFUSE_HOME/cache, made anew when needed

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'library.db'}"


def settings() -> Settings:
    """Read the environment anew: tests and the demo point MEDFUSE_HOME elsewhere."""
    return Settings()
