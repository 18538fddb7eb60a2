"""What can be said where a class_path is wrong: which classes there are."""

from __future__ import annotations

from collections.abc import Callable

from jsonargparse import ArgumentError, auto_cli

from squish_pl.errors import SquishError

MEASURES = "Squish, Novel, SmoothNovel, Clipped, Positive, Support, SupportGain, Contrast, Weighted"
CONTENDERS = "LocalModel, Endpoint, GivenSummaries, Opening, BestSentences, RandomSentences, Highlights"

_TOLD = {
    "contenders": f"A contender has a class_path ({CONTENDERS}, an attack of attacks.yaml",
    "measures": f"A measure has a class_path ({MEASURES}",
}


def run_function(function: Callable[..., None], arguments: list[str]) -> None:
    """Runs a command's function with its arguments.

    Raises:
        SquishError: An argument is wrong; where it names a class, the classes that there are stand beside.
    """
    try:
        auto_cli(function, args=arguments, as_positional=False, exit_on_error=False)
    except ArgumentError as error:
        said = str(error)
        for key, told in _TOLD.items():
            if f'key "{key}"' in said or f'.{key}"' in said:
                said += (
                    f"\n{told}, or the import path of a class of your own) and the class's arguments under init_args"
                )
        raise SquishError(said) from None
