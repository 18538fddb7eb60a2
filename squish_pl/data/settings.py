"""The one check of all data settings."""

from __future__ import annotations

from squish_pl.data.sources import find_files, is_hub, parse_hub
from squish_pl.errors import DataError


def data_problems(
    documents: str = "samples",
    validation_documents: str | None = None,
    batch_size: int = 8,
    min_characters: int = 0,
    max_characters: int | None = None,
    max_tokens: int | None = None,
    shuffle_window: int = 256,
    validation_size: int = 8,
    validation_batch_size: int = 8,
    holdout_share: float = 0.05,
    num_workers: int = 0,
    max_bad_share: float = 0.01,
) -> list[str]:
    """All problems of the settings of a `DocumentDataModule`, one sentence each. Opens no file and no connection."""
    problems = []
    for name, spec in (("documents", documents), ("validation_documents", validation_documents)):
        try:
            if spec is not None and not spec.strip():
                problems.append(f"{name}: expected documents to read, but got nothing")
            elif spec is not None:
                parse_hub(spec) if is_hub(spec) else find_files(spec)
        except DataError as error:
            problems.append(f"{name}: {error}")
    numbers: list[tuple[str, int | None, int]] = [
        ("batch_size", batch_size, 1),
        ("min_characters", min_characters, 0),
        ("max_characters", max_characters, 1),
        ("max_tokens", max_tokens, 1),
        ("shuffle_window", shuffle_window, 0),
        ("validation_size", validation_size, 1),
        ("validation_batch_size", validation_batch_size, 1),
        ("num_workers", num_workers, 0),
    ]
    problems += [
        f"{name}: expected at least {least}, but got {value}"
        for name, value, least in numbers
        if value is not None and value < least
    ]
    if max_characters is not None and min_characters > max_characters:
        problems.append(f"min_characters: expected at most max_characters={max_characters}, but got {min_characters}")
    if not 0 < holdout_share < 1:
        problems.append(f"holdout_share: expected a number between 0 and 1, both excluded, but got {holdout_share}")
    if not 0 <= max_bad_share <= 1:
        problems.append(f"max_bad_share: expected a number from 0 to 1, but got {max_bad_share}")
    return problems
