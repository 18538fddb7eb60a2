"""Whether a group shares its prompt's pass, and whether layers are compiled: decided by trials on model and device."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from squish_pl.budget import Budget
from squish_pl.errors import ModelError
from squish_pl.lm.log_probs import HALF
from squish_pl.policy.attention_check import TOLERANCES, operator_error
from squish_pl.policy.backbone import Backbone, PolicyView
from squish_pl.policy.padded import PaddedPasses
from squish_pl.policy.passes import Compiling, Decoder, Passes, PassesName
from squish_pl.policy.shared_prefix import PlainStepPasses, SharedPrefixPasses
from squish_pl.types import Document, Experience, Prompt

log = logging.getLogger(__name__)


def choose_passes(policy: PolicyView, wanted: PassesName) -> None:
    """Settles how rollouts and policy passes run with a model, on the device where it lies now.

    Args:
        policy: The model with its adapter on; its `passes` are set.
        wanted: "padded": the prompt runs for every completion; "shared_prefix": once for all, or an error where that
            cannot be; "auto": shared where it can be, with one log line where it cannot.

    Raises:
        ModelError: "shared_prefix" is wanted and cannot be.
    """
    policy.passes = PaddedPasses(policy)
    if wanted == "padded":
        return
    shared: SharedPrefixPasses = SharedPrefixPasses(policy)
    problem = shared_prefix_problem(policy, shared)
    if problem is not None:
        fused, shared = problem, PlainStepPasses(policy)
        problem = shared_prefix_problem(policy, shared)
        if problem is None:
            log.warning("a decoding step runs through the model's own layers, in more kernels: %s", fused)
    if problem is None:
        policy.passes = shared
    elif wanted == "shared_prefix":
        raise ModelError(
            f"model.memory.passes is 'shared_prefix', but this model cannot: {problem}; use 'auto' or 'padded'"
        )
    else:
        log.warning("the prompt runs once for each completion, not once for its group: %s", problem)


def take_passes(policy: PolicyView, name: str) -> None:
    """Goes on in the way that an earlier run had settled on, without a trial."""
    ways = {way.name: way for way in (SharedPrefixPasses, PlainStepPasses, PaddedPasses)}
    policy.passes = ways.get(name, PaddedPasses)(policy)


def shared_prefix_problem(policy: PolicyView, shared: SharedPrefixPasses) -> str | None:
    """Why a prompt cannot run once for its whole group; None if it can.

    The configuration tells of attention that looks at less than everything; the rest shows in a trial.
    """
    config = policy.config
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "its attention has a sliding window"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        return "some of its layers have no full attention"
    if policy.device.type == "cuda" and policy.dtype not in HALF:
        dtype = str(policy.dtype).removeprefix("torch.")
        return f"a card has flash attention for half precision alone, and the weights are in {dtype}"
    problem = _operator_problem(policy)
    if problem is not None:
        return problem
    trials: list[Callable[[], tuple[float, float]]] = [lambda: (_decoding_difference(policy, shared.decoder), 0.0)]
    if policy.parameters():  # else it only writes, and there are no policy passes
        padded = PaddedPasses(policy)
        trials.append(lambda: _difference(_trial_pass(policy, padded), _trial_pass(policy, shared)))
    with torch.compiler.set_stance("force_eager"):  # the trial's shapes are not worth compiling
        return _problem_in_trial(policy, *trials)


def decoding_problem(policy: PolicyView) -> str | None:
    """Why a model cannot write in the way that was chosen; None if it can.

    Some keep what they have read in other ways than the decoders know, and would write nonsense.
    """
    return _problem_in_trial(policy, lambda: (_decoding_difference(policy, policy.passes.decoder), 0.0))


def choose_compiling(backbone: Backbone, wanted: Compiling) -> None:
    """Compiles the decoder's layers, one by one, where that is wanted and works.

    Args:
        backbone: On the device where it will run, its way chosen.
        wanted: "auto": on a GPU, with one log line where it does not work there; on a CPU it takes half a minute for
            little.

    Raises:
        ModelError: Wanted, and it does not work.
    """
    if backbone.compiled or wanted is False or (wanted == "auto" and backbone.device.type != "cuda"):
        return

    def difference() -> tuple[float, float]:
        expected = _variants(backbone)
        backbone.compile_layers()
        results = [_difference(*pair) for pair in zip(expected, _variants(backbone), strict=True)]
        nats, gradients = zip(*results, strict=True)
        return max(nats), max(gradients)

    problem = _problem_in_trial(backbone.policy, difference)
    if problem is None:
        return
    backbone.compile_layers(False)
    if wanted is True:
        raise ModelError(
            f"model.memory.compile is true, but compiled layers do not work here: {problem}; use auto or false"
        )
    log.warning("layers are not compiled: %s", problem)


def _operator_problem(policy: PolicyView) -> str | None:
    """What the shared-prefix operator by itself does wrong here; whole passes in half precision would hide it."""
    config = policy.config
    try:
        heads = int(config.num_attention_heads)
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        with torch.inference_mode(False):
            error = operator_error(heads, key_heads, size, policy.dtype, policy.device)
    except Exception as error_:
        return _failed(error_)
    # a number that is none is no small one
    return None if error <= TOLERANCES[policy.dtype] else f"its attention differed by {error:.1%} from float64's"


def _failed(error: Exception) -> str:
    return f"a trial failed ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"


def _variants(backbone: Backbone) -> list[tuple[Tensor, Tensor]]:
    """Every way in which a layer is compiled: policy passes that keep everything and nothing, and the reference."""
    policy, reference = backbone.policy, backbone.reference
    results, before = [], backbone.checkpointed_layers
    try:
        for layers in sorted({0, backbone.checkpointable_layers}):
            backbone.checkpoint_layers(layers)
            with backbone.mode(training=True):
                results.append(_trial_pass(policy, policy.passes))
    finally:
        backbone.checkpoint_layers(before)
    rows = _made_up_tokens(policy, 40).view(2, 20).to(policy.device)
    log_p = reference.head(reference.hidden(rows).flatten(0, 1)).float().log_softmax(dim=-1)
    return [*results, (log_p.amax(dim=-1), torch.ones(1, device=policy.device))]  # no gradients there


def _problem_in_trial(policy: PolicyView, *trials: Callable[[], tuple[float, float]]) -> str | None:
    """What the trials' (difference in nats, relative difference of gradients) say; None if all is well."""
    try:
        with torch.inference_mode(False), policy.without_dropout():  # validation may come first
            results = [trial() for trial in trials]
    except Exception as error:
        return _failed(error)
    nats, gradient = (max(figures) for figures in zip(*results, strict=True))
    # in half precision two ways round differently, by some hundredths of a nat; a wrong one is off by whole nats, or it
    # shows in the operator by itself
    half = policy.dtype in HALF
    if not nats < (0.3 if half else 1e-3):
        return f"a trial differed by {nats:.1e} nats a token"
    if not gradient < (0.3 if half else 1e-2):
        return f"a trial's gradient differed by {gradient:.0%}"
    return None


def _made_up_tokens(policy: PolicyView, count: int) -> Tensor:
    return (torch.arange(1, count + 1) * 7919) % policy.config.vocab_size


def _trial_pass(policy: PolicyView, passes: Passes) -> tuple[Tensor, Tensor]:
    """(log-probs, gradient of the adapter) of a small made-up group."""
    ids = _made_up_tokens(policy, 39)
    prompt, completions = ids[:24], (ids[24:29], ids[29:30], ids[30:39])
    rows = [Experience(prompt, completion, torch.zeros(len(completion)), 0.0, 0.0) for completion in completions]
    with torch.enable_grad():
        log_probs, _ = passes.log_probs(rows)
        gradients = torch.autograd.grad(log_probs.sum(), policy.parameters(), allow_unused=True)
    return log_probs.detach(), torch.cat([g.flatten() for g in gradients if g is not None])


def _difference(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """(mean difference of log-probs in nats, difference of gradients by the first's norm)."""
    (log_probs, gradient), (log_probs_2, gradient_2) = one, other
    relative = (gradient - gradient_2).norm() / gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny)
    return float((log_probs - log_probs_2).abs().mean()), float(relative)


def _decoding_difference(policy: PolicyView, kind: type[Decoder]) -> float:
    """Mean difference of log-probs between a few steps of a decoder, a row leaving on the way, and whole passes, nats.

    The mean is weighted by the probabilities: what the unlikeliest tokens of a vocabulary get is rounding.
    """
    ids = _made_up_tokens(policy, 24)
    texts, firsts, seconds, stay = (ids[:12], ids[12:20]), ids[20:24], ids[:3], torch.tensor([0, 2, 3])
    prompts = [Prompt(Document(""), Budget.parse("1 char"), "", tuple(text.tolist())) for text in texts]
    with policy.generating() as model:
        decoder = kind(model, 2, 4)
        logits = [decoder.prefill(prompts), decoder.step(firsts.to(decoder.device))]
        decoder.keep(stay)
        logits.append(decoder.step(seconds.to(decoder.device)))
        rows = [torch.cat([texts[i // 2], firsts[i : i + 1], seconds[stay == i]]) for i in range(4)]
        whole = [model(input_ids=row.unsqueeze(0).to(decoder.device), use_cache=False).logits[0] for row in rows]
    left = ([0, 1, 2, 3], [0, 1, 2, 3], stay.tolist())
    expected = [whole[i][len(texts[i // 2]) - 1 + step] for step, rows_left in enumerate(left) for i in rows_left]
    one, other = (torch.log_softmax(x.float(), dim=-1) for x in (torch.stack(expected), torch.cat(logits)))
    return float((one.exp() * (one - other).abs()).sum(dim=-1).mean())
