"""What local models write is theirs, however they are asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from local_models import BUDGETS, DOCUMENTS, PROMPT, answers, local, save_models, word_tokenizer
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model
from transformers import PreTrainedModel

from squish_pl import SquishModule
from squish_pl.benchmark.contenders.local import LocalModel
from squish_pl.benchmark.records import Outcome, Task
from squish_pl.budget import Budget
from squish_pl.errors import ConfigError
from squish_pl.lm.loading import BaseModel
from squish_pl.lm.tokens import encode
from squish_pl.policy import rollout
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.padded import PaddedPasses
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import RolloutSettings, SamplingSettings
from squish_pl.policy.thinking import Thinking
from squish_pl.rl.validation import ValidationSettings
from squish_pl.types import Document, DocumentBatch, Finish


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory.mktemp("models"))


def text_by_generate(model: PreTrainedModel, prompt_ids: tuple[int, ...], tokens: int) -> str:
    """What `generate` makes of a prompt, so many tokens."""
    ids = torch.tensor([prompt_ids])
    written = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0
    )[0, ids.shape[1] :]
    return str(make_byte_tokenizer().decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])  # grouped and padded decoding
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_summaries_are_those_of_generate(folders: dict[str, Path], architecture: str, attention: str) -> None:
    contender = local(folders[architecture], attention=attention)
    given = answers(contender, contender.tasks(DOCUMENTS, BUDGETS))
    assert contender._engine is not None
    backbone = contender._engine.backbone
    assert backbone.policy.passes.name == ("shared_prefix" if attention == "sdpa" else "padded")
    assert backbone.model is backbone.language_model.model  # no adapter, not even one that is off
    for task, answer in given.items():
        budget = Budget.parse(task.budget)
        prompt = PROMPT.build(task.document, budget, make_byte_tokenizer())
        assert answer.prompt_tokens == len(prompt.token_ids)
        assert answer.completion_tokens is not None
        expected = text_by_generate(make_tiny_model(architecture), prompt.token_ids, answer.completion_tokens)
        if answer.outcome is Outcome.UNPARSABLE:
            assert answer.reason == "the model ended without U"
            assert "U" not in expected
        elif answer.complete:
            assert answer.summary == expected.removesuffix("U").strip() != expected.strip()
        else:
            assert answer.summary == expected.strip()
            assert not budget.allows(answer.summary, task.document.text)
    assert {answer.complete for answer in given.values() if answer.outcome is Outcome.WRITTEN} == {True, False}


def test_a_hybrid_of_linear_and_full_attention_writes_as_generate_does(tmp_path: Path) -> None:
    qwen = pytest.importorskip("transformers.models.qwen3_5")
    torch.manual_seed(0)
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    linear |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "initializer_range": 0.2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 258}
    ends = {"bos_token_id": 256, "eos_token_id": 257, "tie_word_embeddings": True}
    model = qwen.Qwen3_5ForCausalLM(qwen.Qwen3_5TextConfig(**shape, **heads, **linear, **ends)).eval()
    assert set(model.config.layer_types) == {"linear_attention", "full_attention"}
    model.save_pretrained(tmp_path)
    make_byte_tokenizer().save_pretrained(tmp_path)
    contender = local(tmp_path)
    given = answers(contender, contender.tasks(DOCUMENTS, BUDGETS))  # rows leave on the way
    for task, answer in given.items():
        prompt = PROMPT.build(task.document, Budget.parse(task.budget), make_byte_tokenizer())
        assert answer.completion_tokens is not None
        expected = text_by_generate(model, prompt.token_ids, answer.completion_tokens)
        assert (answer.summary or "") == expected.removesuffix("U").strip()
    drawn = local(tmp_path, samples=3, temperature=1.0)
    tasks = drawn.tasks(DOCUMENTS[:1], BUDGETS)
    assert answers(drawn, tasks) == answers(local(tmp_path, samples=3, temperature=1.0), tasks)
    assert len({answer.summary for answer in answers(drawn, tasks).values()}) > 3


def test_an_adapter_writes_what_validation_writes(folders: dict[str, Path]) -> None:
    base, adapter = str(folders["qwen3"]), str(folders["adapter1"])
    module = SquishModule(
        base_model=BaseModel(base),
        adapter=adapter,
        prompt=PROMPT,
        rollout=RolloutSettings(max_new_tokens=128),
        validation=ValidationSettings(budgets=BUDGETS),
    )
    module.configure_model()
    groups = module.predict_step(DocumentBatch(DOCUMENTS), 0)
    contender = local(folders["qwen3"], adapter=adapter)
    given = answers(contender, [Task(g.prompt.document, str(g.prompt.budget)) for g in groups])
    plain = answers(local(folders["qwen3"]), list(given))
    assert any(answer != plain[task] for task, answer in given.items())
    for group in groups:
        answer = given[Task(group.prompt.document, str(group.prompt.budget))]
        assert answer.completion_tokens == int(group.lengths[0])
        if group.summaries[0] is not None:
            assert (answer.outcome, answer.summary) == (Outcome.WRITTEN, group.summaries[0])
    assert any(group.summaries[0] is not None for group in groups)


def test_an_answer_does_not_depend_on_what_else_is_asked(folders: dict[str, Path]) -> None:
    settings: dict[str, Any] = {"samples": 3, "temperature": 1.0, "seed": 5}
    contender = local(folders["qwen3"], rows=9, **settings)
    tasks = contender.tasks(DOCUMENTS, BUDGETS)
    together = answers(contender, tasks)
    # a run that is killed and goes on: samples of a group are open, others are not, and portions are smaller
    left = [task for i, task in enumerate(tasks) if i % 5 in (1, 4)]
    again = local(folders["qwen3"], rows=3, **settings)
    assert answers(again, left[::-1]) == {task: together[task] for task in left}
    texts = {d.text: {together[t].summary or together[t].reason for t in tasks if t.document == d} for d in DOCUMENTS}
    assert all(len(different) > 3 for different in texts.values())  # samples are not copies of each other
    assert answers(local(folders["qwen3"], rows=9, **settings | {"seed": 6}), tasks) != together


class Script:
    """Draws given completions instead of sampling."""

    def __init__(self, *completions: list[int]) -> None:
        self.completions, self.step = completions, 0

    def __call__(
        self, logits: Any, temperature: Any, generators: Any, group_size: Any, left: Any, top_k: Any = None
    ) -> Any:
        rows = [self.completions[i] for i in left.tolist()]
        drawn = torch.tensor([row[min(self.step, len(row) - 1)] for row in rows])
        self.step += 1
        return drawn, torch.zeros(len(drawn)), torch.zeros(len(drawn))


def scripted(contender: LocalModel, monkeypatch: pytest.MonkeyPatch, document: str, budget: str, *texts: str) -> Any:
    completions = [[257] if text == "</s>" else encode(make_byte_tokenizer(), text) for text in texts]
    monkeypatch.setattr(rollout, "_draw", Script(*completions))
    given = answers(contender, contender.tasks([Document(document)], [budget]))
    return [(a.outcome, a.summary, a.complete, a.reason, a.completion_tokens) for a in given.values()]


def test_every_ending_has_its_outcome(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    contender = local(folders["qwen3"], samples=5, temperature=1.0, rows=5)
    given = scripted(contender, monkeypatch, "d" * 50, "20%", "okU", "U", "12345678901234", "</s>", "\n")
    assert given == [
        (Outcome.WRITTEN, "ok", True, "", 3),
        (Outcome.WRITTEN, "", True, "", 1),
        (Outcome.WRITTEN, "12345678901", False, "", 11),  # a budget of ten
        (Outcome.UNPARSABLE, None, True, "the model ended without U", 1),
        (Outcome.UNPARSABLE, None, True, "no U within 64 tokens", 64),  # line breaks, which do not count at the end
    ]


def test_what_it_thinks_is_not_its_summary(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = replace(PROMPT, close_tag="</summary>", thinking=Thinking(64, ""))
    contender = local(folders["qwen3"], samples=6, temperature=1.0, rows=6, prompt=prompt)
    thought = "a thought that is longer than ten characters</think>"
    endings = ["<summary>ok</summary>", "12345678901234", " " * 99]
    texts = [*(thought + ending for ending in endings), "ok</summary>" * 6, "</think>ok</summary>", "</s>"]
    given = scripted(contender, monkeypatch, "d" * 50, "20%", *texts)
    most = len(thought)
    assert given == [
        (Outcome.WRITTEN, "ok", True, "", most + 21),
        (Outcome.WRITTEN, "12345678901", False, "", most + 11),  # a budget of ten
        (Outcome.UNPARSABLE, None, True, "no </summary> within 64 tokens", most + 64),
        (Outcome.UNPARSABLE, None, True, "the thought did not end within 64 tokens", 64),
        (Outcome.WRITTEN, "ok", True, "", 20),
        (Outcome.UNPARSABLE, None, True, "the model ended without </summary>", 1),
    ]


def test_a_thought_takes_its_room_in_the_context(folders: dict[str, Path], tmp_path: Path) -> None:
    make_tiny_model("qwen3", context=200).save_pretrained(tmp_path)
    make_byte_tokenizer().save_pretrained(tmp_path)
    prompt = replace(PROMPT, close_tag="</summary>", thinking=Thinking(64, "", close_tag="U"))
    contender = local(tmp_path, prompt=prompt, max_new_tokens=20)
    around = len(prompt.build(Document(""), Budget.parse("100 chars"), make_byte_tokenizer()).token_ids)
    asked = [Document("d" * (200 - around - 64 - room)) for room in (0, 1, 20)]
    full, tight, fits = answers(contender, contender.tasks(asked, ["100 chars"])).values()
    assert (full.outcome, full.reason) == (Outcome.FAILED, "the prompt leaves no room in the model's 200 tokens")
    assert tight.outcome is fits.outcome is Outcome.UNPARSABLE


def test_what_is_too_long_for_the_context(folders: dict[str, Path], tmp_path: Path) -> None:
    make_tiny_model("qwen3", context=60).save_pretrained(tmp_path)
    make_byte_tokenizer().save_pretrained(tmp_path)
    prompt = replace(PROMPT, close_tag="</summary>")  # never written
    asked = [Document("d" * length) for length in (20, 60, 30, 61)]
    contender = local(tmp_path, prompt=prompt, max_new_tokens=8)
    around = len(prompt.build(Document(""), Budget.parse("100 chars"), make_byte_tokenizer()).token_ids)
    assert around == 1 + len("\n100 characters\n<summary>")
    given = {
        len(task.document.text): a for task, a in answers(contender, contender.tasks(asked, ["100 chars"])).items()
    }
    assert given[20].reason == "no </summary> within 8 tokens"
    assert given[30].reason == "the model's context was full before </summary>"
    assert given[30].completion_tokens == 60 - around - 30
    assert given[60].outcome is given[61].outcome is Outcome.FAILED
    assert given[60].reason == given[61].reason == "the prompt leaves no room in the model's 60 tokens"
    # one token more than there is room for, and one less
    edge = [Document("d" * (60 - around - room)) for room in (0, 1)]
    full, fits = answers(contender, contender.tasks(edge, ["100 chars"])).values()
    assert (full.reason, fits.completion_tokens) == (given[60].reason, 1)


def test_budgets_in_tokens_are_the_references(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    contender = local(folders["qwen3"], samples=3, temperature=1.0)
    identity = contender.identity
    contender.tokenizer = word_tokenizer()
    assert contender.identity == identity  # the store keeps it with the tasks whose budgets count tokens
    document = "one two three four five six seven eight nine ten"  # ten words, 48 bytes
    asked = []
    build = PromptTemplate.build
    monkeypatch.setattr(PromptTemplate, "build", lambda *a: asked.append(build(*a)) or asked[-1])
    given = scripted(
        contender,
        monkeypatch,
        document,
        "30% tokens",
        "alpha beta gammaU",
        "alpha beta gamma delta epsilon",
        "a b c dU",
    )
    assert "\n3 tokens\n" in asked[-1].text
    assert given[0][:3] == (Outcome.WRITTEN, "alpha beta gamma", True)
    # the fifth word's first letter shows that the fourth is whole
    assert given[1] == (Outcome.WRITTEN, "alpha beta gamma delta e", False, "", len("alpha beta gamma delta e"))
    assert Budget.parse("3 tokens").length(given[1][1], contender.tokenizer) > 3
    assert given[2][:3] == (Outcome.WRITTEN, "a b c d", True)  # closed in time to be scored, as over its budget


def test_the_same_tokenizer_counts_as_before(folders: dict[str, Path]) -> None:
    one, other = local(folders["qwen3"]), local(folders["qwen3"])
    other.tokenizer = make_byte_tokenizer()
    tasks = one.tasks(DOCUMENTS, ["30% tokens", "20 tokens"])
    assert answers(one, tasks) == answers(other, tasks)


def test_a_chat_model_reads_its_template(tmp_path: Path) -> None:
    make_tiny_model("qwen3").save_pretrained(tmp_path)
    chat = make_byte_tokenizer(chat=True)
    chat.save_pretrained(tmp_path)
    contender = local(tmp_path)
    (answer,) = answers(contender, [Task(DOCUMENTS[2], "60%")]).values()
    prompt = PROMPT.build(DOCUMENTS[2], Budget.parse("60%"), chat)
    assert prompt.text.startswith("<s>user\n")
    assert answer.prompt_tokens == len(prompt.token_ids)
    assert answer.completion_tokens is not None
    expected = text_by_generate(make_tiny_model("qwen3"), prompt.token_ids, answer.completion_tokens)
    assert answer.summary == expected.removesuffix("U").strip()
    chat.chat_template = "{{ raise_exception('System role not supported') }}"
    chat.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"does not take the prompt \(System role not supported\)"):
        local(tmp_path).check()


def test_all_end_tokens_of_the_model_end_a_summary(folders: dict[str, Path], tmp_path: Path) -> None:
    assert rollout._end_tokens(make_tiny_model()) == {257}
    model = make_tiny_model()
    model.generation_config.eos_token_id = [257, 7]
    assert rollout._end_tokens(model) == {257, 7}
    template = PromptTemplate(instruction="{document}\n{limit}\n", close_tag="never")
    prompt = template.build(DOCUMENTS[0], Budget.parse("999 chars"), make_byte_tokenizer())
    backbone = Backbone(model, make_byte_tokenizer(), lora=None)
    backbone.policy.passes = PaddedPasses(backbone.policy)
    settings = SamplingSettings(1.0, 200)
    (group,) = rollout.sample(backbone.policy, backbone.tokenizer, template, [prompt], 64, settings, [0])
    last = group.token_ids[torch.arange(64), group.lengths - 1]
    ended = group.finish == int(Finish.ENDED)
    assert {257, 7} == set(last[ended].tolist())
