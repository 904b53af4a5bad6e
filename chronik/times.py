"""Times as the API server writes them: RFC 3339, in UTC and whole seconds (metav1.Time)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def moment(text: str) -> datetime:
    """Return a time, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def written(time: datetime) -> str:
    """Return a time as the API server writes it, in whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def later(text: str, seconds: float) -> str:
    """Return the time so many seconds after another one."""
    return written(moment(text) + timedelta(seconds=seconds))


def elapsed(since: str, until: str) -> float:
    """Return how many seconds lie between two times; none if the second comes first."""
    return max(0.0, (moment(until) - moment(since)).total_seconds())


def from_nanoseconds(value: int) -> str:
    """Return the time that a VolumeSnapshotContent writes as nanoseconds since 1970."""
    return written(datetime.fromtimestamp(value // 1_000_000_000, UTC))
