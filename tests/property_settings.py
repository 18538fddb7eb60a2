"""Settings of the property tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def few_examples(count: int) -> settings:
    """So many examples, the same ones in every run, nothing kept on disk, no limit on time."""
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
