"""Where things live. MEDFUSE_HOME (default ~/.medfuse) holds the library; nothing outside it and --out is
written."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field is an environment variable: MEDFUSE_ and the field's name in capital letters."""

    model_config = SettingsConfigDict(env_prefix="MEDFUSE_")

    home: Path = Field(
        default_factory=lambda: Path.home() / ".medfuse",
        description="Folder of the library, of further bundles (bundles/) and of the viewer's cache.",
    )
    database_url: str = Field(
        default="",
        description="The library's database as an SQLAlchemy URL; empty: library.db in the home folder.",
    )
    letterhead: str = Field(default="", description="The institution's line at the head of a PDF report.")
    header_timeout_s: float = Field(
        default=4.0,
        description="Seconds after which reading up to 64 headers is given up and the files are refused.",
    )
    decode_timeout_s: float = Field(
        default=8.0,
        description="Seconds after which decoding a slice, or a share of a cine, is given up; a file gets a "
        "second more for each 20 MiB.",
    )
    decode_memory_gib: float = Field(
        default=2.0, description="GiB of memory that a process which reads foreign files may take."
    )
    check_images: bool = Field(
        default=True,
        description="Compare each stored image with its hash when a case of the library is read; one that "
        "differs is set aside and not used.",
    )
    timestamp_url: str = Field(
        default="",
        description="Address of an RFC 3161 time stamp authority, for `medfuse audit --stamp`.",
    )
    timestamp_ca: str = Field(
        default="",
        description="File with PEM certificates of that authority; `medfuse audit` checks stamps by them.",
    )
    viewer_cache_gib: float = Field(
        default=4.0,
        description="GiB of encoded images under cache/viewer in the home folder; made anew when needed.",
    )

    @property
    def database(self) -> str:
        """The URL of the library's database."""
        return self.database_url or f"sqlite:///{self.home / 'library.db'}"


def settings() -> Settings:
    """Read the environment anew: tests and the demo point MEDFUSE_HOME elsewhere."""
    return Settings()
