"""From rated summaries to how well measures follow them: one pass through the reference, kept in the store.

ratings -> texts, cut -> evidence -> store -> values of each measure -> agreement with each aspect
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from squish_pl.benchmark.meta import Agreement, Difference, Rated, agreement, controls_of, difference, resampled
from squish_pl.benchmark.progress import step
from squish_pl.benchmark.ratings.rated import Ratings
from squish_pl.benchmark.records import text_hash
from squish_pl.benchmark.references import Reference
from squish_pl.benchmark.store import Store
from squish_pl.errors import ConfigError, DataError
from squish_pl.lm.cutting import cut_to_tokens
from squish_pl.lm.device import release
from squish_pl.lm.language_model import context_length
from squish_pl.lm.tokens import count_tokens
from squish_pl.score.ensemble import load_scorer
from squish_pl.score.evidence import NEEDS, Evidence, Need
from squish_pl.score.measures.base import Measure
from squish_pl.score.scorer import ScoreRequest
from squish_pl.score.settings import ScoreSettings

Found = Mapping[str, Sequence[Evidence]]  #: for each file, by its name, the evidence of each document
Values = Mapping[str, Mapping[str, Sequence[Tensor]]]  #: by file and measure, for each document [G] float64


@dataclass(frozen=True)
class MetaRow:
    """One measure against one aspect of one file.

    Attributes:
        measure: Its name.
        file: The file's name.
        aspect: What people rated.
        agreement: How well it follows them.
        ahead: Of the first measure, within documents; None for that one itself.
    """

    measure: str
    file: str
    aspect: str
    agreement: Agreement
    ahead: Difference | None


@dataclass(frozen=True)
class MetaFindings:
    """What the meta-evaluation found.

    Attributes:
        reference: The model and where it ran.
        facts: Of the run, as plain values.
        files: The rated summaries.
        values: What each measure says of them.
        rows: How well it follows the ratings.
    """

    reference: str
    facts: Mapping[str, Any]
    files: Sequence[Ratings]
    values: Values
    rows: Sequence[MetaRow]


def cut(files: Sequence[Ratings], reference: Reference, max_tokens: int | None) -> dict[str, list[str]]:
    """The documents' texts as the reference reads them, by the files' names.

    Raises:
        DataError: Nothing is left of a document.
    """
    texts = {
        file.name: [
            d.text if max_tokens is None else cut_to_tokens(d.text, reference.tokenizer, max_tokens)
            for d in file.documents
        ]
        for file in files
    }
    for file in files:
        for document, text in zip(file.documents, texts[file.name], strict=True):
            if not text.strip():
                raise DataError(
                    f"nothing is left of the document {document.id!r} in {file.name}, cut to {max_tokens} tokens: set "
                    "max_tokens higher"
                )
    return texts


def room_problems(
    files: Sequence[Ratings], texts: Mapping[str, Sequence[str]], reference: Reference, settings: ScoreSettings
) -> list[str]:
    """Whether each document fits into the reference's context beside its longest summary; before weights are loaded."""
    context, tokenizer, template = context_length(reference.load_config()), reference.tokenizer, settings.template
    framed = count_tokens(tokenizer, template.render_support(""))
    found = []
    for file in files:
        needs = []
        for document, text in zip(file.documents, texts[file.name], strict=True):
            beside = max(
                max(len(template.frame_ids(tokenizer, s)), framed + count_tokens(tokenizer, s))
                for s in document.summaries
            )
            needs.append((count_tokens(tokenizer, text) + beside, beside, document.id))
        need, beside, name = max(needs)
        if need > context:
            room = context - max(beside for _, beside, _ in needs)
            advice = f"set max_tokens to {room} or less" if room > 0 else "leave its longest summaries out"
            found.append(
                f"{file.name}: the document {name!r} takes {need} tokens with its longest summary, but the reference "
                f"{reference.title} reads at most {context}: {advice}"
            )
    return found


def measure(
    files: Sequence[Ratings],
    reference: Reference,
    settings: ScoreSettings,
    device: torch.device,
    store: Store,
    needs: Collection[Need] = (),
    max_tokens: int | None = None,
) -> dict[str, list[Evidence]]:
    """What the reference tells about every document and its summaries; what the store has is not measured again.

    Args:
        files: Rated summaries.
        reference: Loaded here, where anything is left to do, and gone afterwards.
        settings: How it measures.
        device: Where it runs.
        store: Keeps each document's evidence.
        needs: What is wanted beside the savings; the other document is the file's next.
        max_tokens: Documents are cut to so many of the reference's tokens.

    Raises:
        ConfigError: A document does not fit into the reference's context.
        DataError: Nothing is left of a document.
        ModelError: The reference cannot be loaded, or gives no finite information.
    """
    texts = cut(files, reference, max_tokens)
    if problems := room_problems(files, texts, reference, settings):
        raise ConfigError(problems)
    plain = reference.identity(settings, device)
    identities = {more: _identity(plain, more, settings) for more in _at_least(needs)}
    found: dict[tuple[str, int], Evidence] = {}
    left: list[tuple[str, int, ScoreRequest]] = []
    for file in files:
        own = texts[file.name]
        for i, (document, text) in enumerate(zip(file.documents, own, strict=True)):
            request = ScoreRequest(text, document.summaries, other=own[(i + 1) % len(own)])
            kept = (store.evidence(identity, *_hashes(request, more)) for more, identity in identities.items())
            known = next((one for one in kept if one is not None), None)
            if known is None:
                left.append((file.name, i, request))
            else:
                found[file.name, i] = known
    if left:
        scorer = load_scorer(reference, settings, device)
        with step(f"documents under {reference.title}", len(left)) as progress:
            for name, i, request in left:
                # one at a time, so that a run that was stopped measures each in the same batches, to the last digit
                (one,) = scorer.evidence([request], needs)
                store.put_evidence(identities[frozenset(needs)], *_hashes(request, needs), one)
                found[name, i] = one
                progress.advance()
        del scorer
        release(device)
    return {file.name: [found[file.name, i] for i in range(len(file.documents))] for file in files}


def measure_values(measures: Sequence[Measure], found: Found) -> Values:
    """What every measure says of every summary."""
    return {
        file: {one.name: [one(document, evidence) for document in evidence] for one in measures}
        for file, evidence in found.items()
    }


def compare_measures(files: Sequence[Ratings], values: Values) -> list[MetaRow]:
    """Every measure against every aspect of every file; all are compared with the first measure."""
    rows = []
    for file in files:
        drawn = resampled(len(file.documents))
        controls = [controls_of(document.text, document.summaries) for document in file.documents]
        systems = [document.systems for document in file.documents]
        for aspect in file.aspects:
            ratings = [torch.tensor(row, dtype=torch.float64) for row in file.rated(aspect)]
            rated = Rated(ratings, controls, systems)
            own = {name: agreement(said, rated, drawn) for name, said in values[file.name].items()}
            first = next(iter(own.values()))
            for name, one in own.items():
                ahead = None if one is first else difference(one.documents, first.documents, drawn)
                rows.append(MetaRow(name, file.name, aspect, one, ahead))
    return rows


def _at_least(needs: Collection[Need]) -> list[frozenset[Need]]:
    """What holds these needs and maybe others; these alone first."""
    others = [need for need in NEEDS if need not in needs]
    return [frozenset(needs).union(some) for n in range(len(others) + 1) for some in combinations(others, n)]


def _identity(plain: str, needs: Collection[Need], settings: ScoreSettings) -> str:
    frame = [f"support and ending {text_hash(settings.template.support_frame)}"] if "support" in needs else []
    return ", ".join([plain, *frame, *(need for need in NEEDS if need in needs and need != "support")])


def _hashes(request: ScoreRequest, needs: Collection[Need]) -> tuple[str, str]:
    read = [str(request.document), *([str(request.other)] if "elsewhere" in needs else [])]
    return "-".join(map(text_hash, read)), text_hash(json.dumps(list(request.summaries)))
