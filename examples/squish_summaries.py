"""A verifiers taskset by this module's name, with the harness that asks a model once; verifiers.toml sets the rest."""

from verifiers.v1.harnesses.null import NullHarness

from squish_pl.integrations.verifiers import SquishTaskset

__all__ = ["NullHarness", "SquishTaskset"]
