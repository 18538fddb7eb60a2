"""The module as a library: rounds, gradients and what moves."""

import copy
import dataclasses
import gc
import logging
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl import SquishModule
from squish_pl.callbacks import AdapterCheckpoint
from squish_pl.errors import ConfigError, DataError, ModelError, SquishError
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.plan import MemorySettings
from squish_pl.policy.memory.tracker import AllocationTracker
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import RolloutSettings
from squish_pl.policy.shared_prefix import SharedPrefixDecoder
from squish_pl.rl.advantages import group_advantages, zero_spread
from squish_pl.rl.experience import make_experience
from squish_pl.rl.learner import LearnSettings
from squish_pl.rl.losses import ClippedLoss
from squish_pl.rl.optimizer import OptimizerSettings
from squish_pl.rl.rewards import InvalidRule, OwnInformation, Squish, SquishNovel
from squish_pl.rl.validation import ValidationSettings
from squish_pl.score.scorer import ScoreRequest
from squish_pl.types import Document, DocumentBatch

# a random model hits one given byte now and then, so some of its summaries close and score
PROMPT = PromptTemplate(instruction="{document}\n{limit}\n", close_tag="H")
ROLLOUT = RolloutSettings(["60%"], group_size=4, max_new_tokens=24)
DOCUMENTS = [
    Document("The ferry left at dawn. It carried 31 passengers and a goat named Ada.", "one"),
    Document("Three councillors voted against the plan on Monday, and two of them said so at length.", "two"),
    Document("Snow fell on the pass all night.", "three"),
    Document("A chess club of nine members has bought the old bakery on Hill Street for 40,000 crowns.", "four"),
]


def make_module(dtype=torch.float64, shaken=True, dropout=0.0, **settings):
    defaults = {"rollout": ROLLOUT, "validation": ValidationSettings(["60%"]), "prompt": PROMPT}
    module = SquishModule(**(defaults | settings))
    tokenizer = make_byte_tokenizer()
    lora = LoraSettings(r=4, alpha=8, dropout=dropout)
    backbone = Backbone(make_tiny_model("qwen3", dtype), tokenizer, lora)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in backbone.adapter_parameters() if shaken else []:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    module.set_backbone(backbone)
    return module


def make_rows(module, documents=DOCUMENTS):
    groups = module.sample(module.training_prompts(documents))
    scores = module.scorer.score_batch([_request(group) for group in groups])
    rewards = torch.stack([group.total for group in module.judge(groups, scores)])
    skip = zero_spread(rewards)
    assert not skip.all(), "the test needs a group that teaches something"
    return make_experience(groups, group_advantages(rewards), skip), groups, rewards


def _request(group):
    return ScoreRequest(group.prompt.document, group.summaries, group.prompt.budget)


def gradients(module, rows):
    module.zero_grad()
    totals = module.accumulate(rows)
    return torch.cat([p.grad.flatten().double() for p in module.backbone.adapter_parameters()]), totals


@pytest.mark.parametrize("passes", ["shared_prefix", "padded"])
def test_with_dropout_checkpointed_layers_give_the_same_gradient(passes):
    found = []
    for checkpointing in ("none", "full"):
        module = make_module(dropout=0.5, memory=MemorySettings(checkpointing=checkpointing, passes=passes))
        rows, _, _ = make_rows(module)
        torch.manual_seed(5)
        found.append(gradients(module, rows)[0])
        assert not module.backbone.model.training
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=0)
    torch.manual_seed(6)
    assert (gradients(module, rows)[0] - found[0]).norm() > 0.1 * found[0].norm()  # there is dropout


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_slicing_groups_and_batch_differently_gives_the_same_gradient(dtype, tolerance):
    module = make_module(dtype)
    rows, _, _ = make_rows(module)
    # the policy has moved since it sampled, so that ratios and clips take part
    moved = [
        dataclasses.replace(r, old_log_probs=r.old_log_probs + 0.4 * torch.randn(len(r.old_log_probs))) for r in rows
    ]
    whole, totals = gradients(module, moved)
    assert whole.abs().max() > 0
    for tokens in (1, 120, 150, 200, 400):
        module.learner.plan.learning.value = module.learner.plan.whole = tokens
        sliced, sliced_totals = gradients(module, moved)
        assert (sliced - whole).norm() / whole.norm() < tolerance
        assert sliced_totals.loss == pytest.approx(totals.loss, rel=1e-5)
        clips = [[t.sums[name] for name in ("clipped_low", "clipped_high")] for t in (sliced_totals, totals)]
        assert clips[0] == clips[1]
        assert min(clips[1]) > 0
    # the order of documents does not matter either
    assert (gradients(module, moved[::-1])[0] - whole).norm() / whole.norm() < tolerance


def test_the_gradient_of_a_batch_is_the_mean_of_its_documents_gradients():
    module = make_module()
    rows, groups, rewards = make_rows(module)
    whole, _ = gradients(module, rows)
    parts = []
    for d in range(len(groups)):
        reward = rewards[d : d + 1]
        part = make_experience(groups[d : d + 1], group_advantages(reward), zero_spread(reward))
        parts.append(gradients(module, part)[0] if part else torch.zeros_like(whole))
    assert torch.allclose(whole, torch.stack(parts).mean(0), rtol=1e-9, atol=1e-14)


def test_skipping_a_group_of_equal_rewards_changes_no_gradient():
    module = make_module()
    _, groups, rewards = make_rows(module)
    rewards[1] = 0.25
    advantages = group_advantages(rewards)
    skipped = make_experience(groups, advantages, zero_spread(rewards))
    kept = make_experience(groups, advantages, torch.zeros(len(groups), dtype=torch.bool))
    assert len(skipped) < len(kept)
    assert torch.allclose(gradients(module, skipped)[0], gradients(module, kept)[0], rtol=1e-10, atol=1e-15)


def test_gradient_checkpointing_changes_no_gradient():
    plain = make_module(memory=MemorySettings(checkpointing="none"))
    rows, _, _ = make_rows(plain)
    expected = gradients(plain, rows)[0]
    for checkpointing, layers in (("selective", 1), ("full", 2)):
        spared = make_module(memory=MemorySettings(checkpointing=checkpointing))
        assert torch.allclose(gradients(spared, rows)[0], expected, rtol=1e-10, atol=1e-15)
        assert spared.backbone.checkpointed_layers == layers


def test_checkpointing_that_a_model_cannot_do_is_told(monkeypatch):
    monkeypatch.setattr(Backbone, "checkpointable_layers", 0)
    with pytest.raises(ModelError, match=r"model\.memory\.checkpointing is 'full'.*auto or none"):
        make_module(memory=MemorySettings(checkpointing="full"))


def fit(module, tmp_path, rounds=1, batches=None, callbacks=()):
    data = batches or [DocumentBatch(DOCUMENTS)] * rounds
    trainer = Trainer(
        max_steps=rounds * module.learn.policy_passes,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
    )
    loader = torch.utils.data.DataLoader(data, batch_size=None)
    trainer.fit(module, loader)
    return trainer


def test_one_step_moves_the_adapter_and_nothing_else(tmp_path):
    module = make_module(learn=LearnSettings(policy_passes=2), optimizer=OptimizerSettings(learning_rate=1e-2))
    before = copy.deepcopy(dict(module.backbone.named_parameters()))
    trainer = fit(module, tmp_path)
    assert trainer.global_step == 2
    assert module.round == 1
    moved = {n for n, p in module.backbone.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert moved == {n for n in before if "lora_" in n}


def test_a_step_raises_the_probability_of_better_completions(tmp_path):
    module = make_module(optimizer=OptimizerSettings(learning_rate=1e-3))
    rows, _, _ = make_rows(module)
    advantages = torch.tensor([row.advantage for row in rows], dtype=torch.float64)
    lengths = torch.tensor([len(row.completion_ids) for row in rows])

    def surrogate():
        log_probs = torch.cat(module.accumulate(rows).log_probs)
        return float((log_probs * advantages.repeat_interleave(lengths)).sum())

    before = surrogate()
    fit(module, tmp_path)  # draws the same rollouts: same seed, round and documents
    assert surrogate() > before + 1e-4


def test_first_pass_old_log_probs_have_a_ratio_of_exactly_one(tmp_path):
    module = make_module(torch.float32, learn=LearnSettings(old_log_probs="first_pass"))
    fit(module, tmp_path)
    assert module.figures["policy/ratio"] == 1.0
    several = make_module(
        learn=LearnSettings(old_log_probs="first_pass", policy_passes=3),
        optimizer=OptimizerSettings(learning_rate=5e-2, max_grad_norm=0),
        loss=ClippedLoss(0.01, 0.01),
    )
    fit(several, tmp_path)
    assert several.figures["policy/ratio"] != 1.0
    assert several.figures["policy/clipped_low"] + several.figures["policy/clipped_high"] > 0


def final_adapter(tmp_path, **settings):
    module = make_module(optimizer=OptimizerSettings(learning_rate=1e-2, **settings.pop("optimizer", {})), **settings)
    fit(module, tmp_path, rounds=3)
    return torch.cat([p.detach().flatten() for p in module.backbone.adapter_parameters()])


def test_offloading_the_optimiser_changes_nothing(tmp_path):
    plain = final_adapter(tmp_path, optimizer={"offload": False})
    assert torch.equal(plain, final_adapter(tmp_path, optimizer={"offload": True}))
    assert not torch.equal(plain, final_adapter(tmp_path, rollout=dataclasses.replace(ROLLOUT, seed=1)))


class Broken(ClippedLoss):
    """A loss that is not a number from its second pass on."""

    calls = 0

    def __call__(self, *tensors):
        self.calls += 1
        parts = super().__call__(*tensors)
        return parts if self.calls == 1 else parts._replace(loss=parts.loss * float("nan"))


def test_a_loss_that_is_not_finite_ends_the_run_and_counts_for_nothing(tmp_path):
    learn, memory = LearnSettings(policy_passes=2), MemorySettings(micro_batch_tokens=100_000)
    module = make_module(loss=Broken(), learn=learn, memory=memory)
    saved = AdapterCheckpoint(dirpath=str(tmp_path / "run"), every_n_rounds=1)
    with pytest.raises(SquishError, match=r"round 1: the loss is nan .* Lower the learning rate"):
        fit(module, tmp_path, callbacks=[saved])
    assert module.loss.calls == 2  # the first pass went well
    assert module.round == 0
    assert module.figures == {}
    assert not saved.last_checkpoint.exists()


def test_warm_up_and_clipping(tmp_path):
    module = make_module(optimizer=OptimizerSettings(learning_rate=1e-2, warmup_steps=3))
    fit(module, tmp_path, rounds=1)
    assert module.figures["optim/learning_rate"] == pytest.approx(1e-2 * 2 / 4)  # of the next step
    rows, _, _ = make_rows(module)
    gradients(module, rows)
    module.optimizer = OptimizerSettings(max_grad_norm=1e-5)
    before = module._clip_gradients()
    after = torch.cat([p.grad.flatten() for p in module.backbone.adapter_parameters()]).norm()
    assert before > 1e-5
    assert float(after) == pytest.approx(1e-5 * before / (before + 1e-6), rel=1e-4)


def test_a_batch_that_teaches_nothing_still_counts(tmp_path):
    module = make_module(prompt=PromptTemplate(instruction="{document}{limit}", close_tag="@never@"), shaken=False)
    before = [p.clone() for p in module.backbone.adapter_parameters()]
    trainer = fit(module, tmp_path, rounds=2)
    assert trainer.global_step == module.round == 2
    assert module.figures["reward/zero_spread"] == 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, module.backbone.adapter_parameters(), strict=True))


def test_options_of_the_ablations_train(tmp_path):
    for settings in (
        {"rewards": [Squish(), OwnInformation(0.1)]},
        {"rewards": [SquishNovel()], "learn": LearnSettings("mean_std", InvalidRule(0.0))},
        {"rollout": dataclasses.replace(ROLLOUT, budgets=["40 chars", "16 tokens", "50% tokens"])},
    ):
        module = make_module(**settings)
        fit(module, tmp_path)
        assert module.figures["policy/grad_norm"] > 0


def test_own_information_is_subtracted_from_the_reward():
    learn = LearnSettings(invalid=InvalidRule(0.0))
    module = make_module(rewards=[Squish(), OwnInformation(0.1)], learn=learn)
    plain = make_module(learn=learn)
    groups = module.sample(module.training_prompts(DOCUMENTS))
    scores = module.scorer.score_batch([_request(group) for group in groups])
    rewarded = module.judge(groups, scores)
    reward, valid = (torch.stack([getattr(group, name) for group in rewarded]) for name in ("total", "valid"))
    expected = torch.stack([group.total for group in plain.judge(groups, scores)])
    assert valid.any()
    for d, g in valid.nonzero().tolist():
        own = float(module.scorer.information([groups[d].summaries[g]])[0].sum())
        assert float(expected[d, g] - reward[d, g]) == pytest.approx(0.1 * own / scores[d].information, rel=1e-6)


def test_the_checkpoint_holds_the_adapter_and_never_the_base(tmp_path):
    module = make_module(torch.float32)
    trainer = fit(module, tmp_path, callbacks=[AdapterCheckpoint(dirpath=str(tmp_path / "run"), every_n_rounds=1)])
    callback = next(c for c in trainer.callbacks if isinstance(c, AdapterCheckpoint))
    checkpoint = torch.load(callback.last_checkpoint, weights_only=True)
    assert checkpoint["state_dict"]
    assert all("lora_" in name for name in checkpoint["state_dict"])
    assert checkpoint["squish"]["round"] == 1
    assert checkpoint["squish"]["base_fingerprint"] == module.backbone.fingerprint
    other = make_module(torch.float32)
    other.load_state_dict(checkpoint["state_dict"])
    for mine, theirs in zip(other.backbone.adapter_parameters(), module.backbone.adapter_parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_all_problems_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        SquishModule(
            rollout=RolloutSettings(["0%", "5%"], group_size=1),
            learn=LearnSettings(policy_passes=0),
            loss=ClippedLoss(low=2.0),
        )
    assert len(caught.value.problems) == 4
    for word in (
        "model.rollout.group_size",
        "model.rollout.budgets: expected a budget above zero, but got '0%'",
        "model.learn.policy_passes",
        "model.loss (ClippedLoss): low must lie between 0 and 1, but is 2.0",
    ):
        assert word in str(caught.value)


def test_a_prompt_too_long_for_the_model_is_named():
    module = make_module()
    with pytest.raises(DataError, match=r"document 'long' has \d+ tokens.*data\.max_tokens"):
        module.sample(module.training_prompts([Document("x" * 5000, "long")]))


@pytest.mark.parametrize("old_log_probs", ["sampling", "first_pass"])
def test_shared_prefix_and_padded_training_end_in_the_same_adapter(old_log_probs, tmp_path):
    adapters = []
    for passes in ("shared_prefix", "padded"):
        module = make_module(
            memory=MemorySettings(passes=passes),
            learn=LearnSettings(policy_passes=3, old_log_probs=old_log_probs),
            optimizer=OptimizerSettings(learning_rate=0.01),
        )
        before = torch.cat([p.detach().flatten().clone() for p in module.backbone.adapter_parameters()])
        fit(module, tmp_path, rounds=2)
        assert module.backbone.policy.passes.name == passes
        adapters.append(torch.cat([p.detach().flatten() for p in module.backbone.adapter_parameters()]))
    one, other = adapters
    assert (one - before).norm() > 0.01 * before.norm()
    assert (one - other).abs().max() < 1e-8 * one.abs().max()


def run_out_above(monkeypatch, module, limits):
    """Makes the model raise out-of-memory errors in passes that are larger than the limits; returns what was raised."""
    raised = []

    def guard(kind, size):
        if size > limits[kind]:
            raised.append((kind, size))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    passes, reference = module.backbone.policy.passes, module.scorer.reference
    packed, hidden, prefill = passes.packed_hidden, reference.hidden, SharedPrefixDecoder.prefill

    def packed_guarded(token_ids, positions, groups):
        result = packed(token_ids, positions, groups)
        if len(token_ids) > limits["learning"]:
            # backward fails half-way, with some gradients already added
            result.register_hook(lambda grad: guard("learning", len(token_ids)))
            (result.sum() * 3).backward(retain_graph=True)
        return result

    def hidden_guarded(input_ids):
        guard("scoring", input_ids.numel())
        return hidden(input_ids)

    def prefill_guarded(self, prompts):
        guard("rollout", self.group_size * len(prompts))
        return prefill(self, prompts)

    monkeypatch.setattr(passes, "packed_hidden", packed_guarded)
    monkeypatch.setattr(reference, "hidden", hidden_guarded)
    monkeypatch.setattr(SharedPrefixDecoder, "prefill", prefill_guarded)
    return raised


def test_running_out_of_memory_changes_nothing_but_the_sizes(monkeypatch, caplog):
    plain, short = make_module(), make_module()
    rows, _, rewards = make_rows(plain)
    expected, totals = gradients(plain, rows)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        short.engine.get_ready()
        raised = run_out_above(patched, short, {"rollout": 8, "scoring": 300, "learning": 140})
        rows_2, _, rewards_2 = make_rows(short)
        got, totals_2 = gradients(short, rows_2)
    assert {kind for kind, _ in raised} == {"rollout", "scoring", "learning"}
    assert short.engine.plan.rollout.value == 8
    assert short.scorer.batch_tokens <= 300
    assert short.engine.plan.learning.value <= 140
    assert "out of memory in a policy pass" in caplog.text
    assert [r.completion_ids.tolist() for r in rows_2] == [r.completion_ids.tolist() for r in rows]
    assert torch.allclose(rewards_2, rewards, rtol=1e-12)
    assert torch.allclose(got, expected, rtol=1e-10, atol=1e-15)
    assert totals_2.tokens == totals.tokens
    assert totals_2.loss == pytest.approx(totals.loss, rel=1e-10)
    tokens = plain.clock.tokens
    assert short.clock.tokens["policy"] == tokens["policy"]


def test_what_does_not_fit_at_all_is_one_clear_error(monkeypatch):
    module = make_module()
    rows, _, _ = make_rows(module)
    run_out_above(monkeypatch, module, {"rollout": 16, "scoring": 9999, "learning": 96})
    with pytest.raises(
        SquishError, match=r"out of memory in a policy pass of \d+ tokens, the smallest there is: lower"
    ):
        module.accumulate(rows)


def test_rollouts_and_scores_leave_nothing_behind_for_the_policy_passes():
    module = make_module()
    module.engine.get_ready()
    make_rows(module)  # the scorer remembers documents
    with AllocationTracker() as tracker:
        groups = module.sample(module.training_prompts(DOCUMENTS))
        results = module.scorer.score_batch([_request(group) for group in groups])
        gc.collect()
    held = [t for g in groups for t in (g.token_ids, g.mask, g.log_probs, g.entropies, g.finish)]
    held += [t for r in results for t in (r.score, r.novel_score, r.saved, r.within_budget, r.token_saved)]
    assert tracker.live <= 1.1 * sum(t.untyped_storage().nbytes() for t in held)


@pytest.mark.slow
def test_compiled_layers_and_loss_give_the_same_gradient(tmp_path):
    plain = make_module(torch.float32)
    compiled = make_module(torch.float32, memory=MemorySettings(compile=True, checkpointing="selective"))
    rows, _, _ = make_rows(plain)
    assert [r.completion_ids.tolist() for r in make_rows(compiled)[0]] == [r.completion_ids.tolist() for r in rows]
    expected, got = gradients(plain, rows)[0], gradients(compiled, rows)[0]
    assert (got - expected).norm() / expected.norm() < 1e-5
    fit(compiled, tmp_path, rounds=2)
    assert compiled.round == 2


def test_a_round_draws_from_the_budgets_of_its_place_in_the_curriculum():
    curriculum = [(0, "60%"), (3, "20 tokens")]
    module = make_module(rollout=dataclasses.replace(ROLLOUT, budgets=["60%", "20 tokens"], curriculum=curriculum))
    plain = make_module(rollout=dataclasses.replace(ROLLOUT, budgets=["60%", "20 tokens"]))

    def drawn(one, round_):
        one.round = round_
        return [str(prompt.budget) for prompt in one.training_prompts(DOCUMENTS)]

    assert {name for round_ in range(3) for name in drawn(module, round_)} == {"60%"}
    later = [drawn(module, round_) for round_ in range(3, 12)]
    assert {name for names in later for name in names} == {"60%", "20 tokens"}
    assert later == [drawn(plain, round_) for round_ in range(3, 12)]  # from then on, as without it
    assert drawn(module, 1) == ["60%"] * 4  # wherever a run goes on


def test_budgets_are_drawn_from_a_sources_own_list(monkeypatch):
    module = make_module(rollout=dataclasses.replace(ROLLOUT, budgets=["40%", "60%"]))
    own = {"chats": ["7 chars", "30% tokens", "9 bytes"]}
    documents = [dataclasses.replace(DOCUMENTS[i % 4], source=("news", "chats", "")[i % 3]) for i in range(60)]

    def drawn():
        found = {"news": set(), "chats": set(), "": set()}
        for prompt in module.training_prompts(documents):
            found[prompt.document.source].add(str(prompt.budget))
        return found

    both = {"40%", "60%"}
    assert drawn() == {"news": both, "chats": both, "": both}
    monkeypatch.setattr(SquishModule, "_documents", SimpleNamespace(budgets=own))
    assert drawn() == {"news": both, "chats": set(own["chats"]), "": both}
    before = module.training_prompts(documents)
    assert [p.budget for p in before] == [p.budget for p in module.training_prompts(documents)]
    module.round = 1
    assert [p.budget for p in before] != [p.budget for p in module.training_prompts(documents)]
