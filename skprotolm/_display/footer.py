"""The last line of a page: when it was made, and by which versions."""

from __future__ import annotations

from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("skprotolm", "torch", "transformers", "sentence-transformers")


def today() -> str:
    """Return the date in UTC, as YYYY-MM-DD."""
    return datetime.now(timezone.utc).date().isoformat()


def versions() -> str:
    """List the installed versions of the packages that compute a model."""
    return ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # imported from a source tree that is not installed
        return "unknown"
