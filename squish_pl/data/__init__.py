"""Documents: where they come from, which are used, and how they reach the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from squish_pl.data.datamodule import DocumentDataModule
    from squish_pl.lm.cutting import cut_to_tokens

__all__ = ["DocumentDataModule", "cut_to_tokens"]


def __getattr__(name: str) -> Any:
    # Imported on first use: cutting a text must not cost the import of Lightning and datasets.
    if name == "DocumentDataModule":
        from squish_pl.data.datamodule import DocumentDataModule

        return DocumentDataModule
    if name == "cut_to_tokens":
        from squish_pl.lm.cutting import cut_to_tokens

        return cut_to_tokens
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
