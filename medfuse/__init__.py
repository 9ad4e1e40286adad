"""medfuse: several sensors in, one patient understood, a report a radiologist can check."""

from importlib.metadata import version

__version__ = version("medfuse")
