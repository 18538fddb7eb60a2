"""Loggers with the interfaces of W&B's and MLflow's, which write what they are told into lists."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lightning.pytorch.loggers import Logger

TOLD: list[tuple[Any, ...]] = []  #: by all of them


class _Standing(Logger):
    name, version, save_dir = "standing", "0", None

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        TOLD.append((type(self).__name__, "metrics", dict(metrics), step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


class Tables(_Standing):
    """W&B's."""

    def log_table(
        self, key: str, columns: Any = None, data: Any = None, dataframe: Any = None, step: Any = None
    ) -> None:
        TOLD.append(("Tables", key, columns, data, step))


class Artifacts(_Standing):
    """MLflow's."""

    run_id = "r1"

    @property
    def experiment(self) -> Any:
        return SimpleNamespace(log_text=lambda run, text, file: TOLD.append(("Artifacts", run, text, file)))
