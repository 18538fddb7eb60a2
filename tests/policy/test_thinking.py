"""Thinking before the summary: how it is asked for, read and sampled."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_byte_tokenizer, make_tiny_model
from tiny_policies import make_policy

from squish_pl.budget import Budget
from squish_pl.errors import ConfigError, DataError
from squish_pl.lm.halving import Limit
from squish_pl.lm.tokens import encode, encode_markup
from squish_pl.policy import rollout
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.caps import completion_caps
from squish_pl.policy.context import context_problems
from squish_pl.policy.engine import Engine
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.memory.plan import MemoryPlan, MemorySettings
from squish_pl.policy.padded import PaddedPasses
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import SamplingSettings, sample
from squish_pl.policy.thinking import Thinking
from squish_pl.policy.trials import choose_passes
from squish_pl.policy.watch import Completion, Watch, completion_text
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document, Finish, Prompt

SHORT = PromptTemplate("{document}|{limit}\n", thinking=Thinking(64, "Think in <think>.\n"))


# ---- the prompt ----


def test_a_base_model_reads_the_request_and_an_open_thought(byte_tokenizer):
    prompt = SHORT.build(Document("abc </think>"), Budget.parse("5 chars"), byte_tokenizer)
    assert prompt.text == "<s>abc </think>|5 characters\nThink in <think>.\n<think>\n"
    assert byte_tokenizer.decode(list(prompt.token_ids)) == prompt.text


def test_the_default_request_asks_for_it():
    asked = PromptTemplate().instruction + Thinking().instruction
    assert asked.endswith("between <summary> and </summary>.\nBefore it, note the facts that matter most between "
                          "<think> and </think>.\n")  # fmt: skip


def test_without_thinking_nothing_is_asked_otherwise(byte_tokenizer, chat_tokenizer):
    assert PromptTemplate().thinking is None
    for tokenizer, start, end in ((byte_tokenizer, "<s>", ""), (chat_tokenizer, "<s>user\n", "</s>\n<s>assistant\n")):
        prompt = PromptTemplate("{document}|{limit}").build(Document("abc"), Budget.parse("5 chars"), tokenizer)
        assert prompt.text == f"{start}abc|5 characters{end}<summary>"


# the end of Qwen3's template, and of templates of models that always or never think
HYBRID = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ANSWER = "{% if add_generation_prompt %}<|im_start|>assistant\n"


def chat(end, *added, special=False):
    tokenizer = make_byte_tokenizer()
    tokenizer.chat_template = TURNS + ANSWER + end + "{% endif %}"
    tokenizer.add_tokens(list(added), special_tokens=special)
    return tokenizer


@pytest.mark.parametrize(
    ("end", "written"),
    [
        (HYBRID, "<think>\n"),
        ("", "<think>\n"),
        ("<think>\n", "<think>\n"),  # opened by the template: not twice
        ("<think>", "<think>"),
        ("{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}", "<think>\n"),
        ("{% if not thinking %}</think>{% endif %}", "<think>\n"),
    ],
)
def test_a_chat_model_is_told_to_think(end, written):
    prompt = SHORT.build(Document("abc"), Budget.parse("5 chars"), chat(end))
    request = "<|im_start|>user\nabc|5 characters\nThink in <think>.\n<|im_end|>\n"
    assert prompt.text == f"{request}<|im_start|>assistant\n{written}"


def test_qwen3s_tags_are_one_token_each():
    tokenizer = chat(HYBRID, "<think>", "</think>")
    begin, end = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    thinking = SHORT.build(Document("a <think> b </think>"), Budget.parse("5 chars"), tokenizer)
    assert [token for token in thinking.token_ids if token in (begin, end)] == [begin, begin]  # named, and opened
    assert thinking.token_ids[-2:] == (begin, *encode(tokenizer, "\n"))
    plain = PromptTemplate("{document}|{limit}\n").build(Document("abc"), Budget.parse("5 chars"), tokenizer)
    assert begin not in plain.token_ids


def test_a_template_with_other_tags_says_what_to_set():
    tokenizer = chat("[THINK]")
    with pytest.raises(ConfigError) as caught:
        SHORT.build(Document("abc"), Budget.parse("5 chars"), tokenizer)
    assert caught.value.problems == [
        "the model's chat template opens a thought with [THINK]: set prompt.thinking.open_tag to [THINK] and close_tag "
        "to [/THINK]"
    ]
    template = PromptTemplate("{document}", thinking=Thinking(64, "", "[THINK]", "[/THINK]"))
    assert template.build(Document("abc"), Budget.parse("5 chars"), tokenizer).text.endswith("assistant\n[THINK]")
    assert template.parse("a</think>b[/THINK]c</summary>") == "c"


def test_problems_are_named():
    assert SHORT.problems() == []
    for tokens, wrong in ((63, True), (64, False), (1024, False), (1025, True)):
        problem = f"prompt.thinking.max_tokens must be from 64 to 1024, but is {tokens}"
        assert PromptTemplate(thinking=Thinking(tokens)).problems() == [problem] * wrong
    found = PromptTemplate(thinking=Thinking(open_tag=" ", close_tag="")).problems()
    assert found == [
        "prompt.thinking.open_tag must not be empty: it begins a thought",
        "prompt.thinking.close_tag must not be empty: it ends a thought",
    ]


# ---- the completion as text ----


@pytest.mark.parametrize(
    ("completion", "thought", "summary"),
    [
        ("Two facts.</think>\n<summary> A cat. </summary> more", "Two facts.", "A cat."),
        ("Two facts.</think>A cat.</summary>", "Two facts.", "A cat."),  # without the opening tag
        ("Two facts. <summary>A cat.</summary>", "Two facts. <summary>A cat.</summary>", None),  # never closed
        ("one</think>two</think><summary>A cat.</summary>", "one", "A cat."),  # the first closing tag
        ("one</think>two</think>three</summary>", "one", "two</think>three"),
        ("one</think><summary>A </think> cat.</summary>", "one", "A </think> cat."),
        ("</think><summary>A cat.</summary>", "", "A cat."),
        (" \n</think></summary>", "", ""),
        ("<summary>draft</summary></think><summary>A cat.</summary>", "<summary>draft</summary>", "A cat."),
        ("one</think><summary>a <summary>b</summary>", "one", "b"),  # the last summary
        ("one</think><summary>a</summary> or <summary>b</summary> c", "one", "b"),
        ("one</think><summary>a</summary><summary>b", "one", "a"),  # the last that is closed
        ("one</think>Here: <summary>b</summary>", "one", "b"),
        ("one</think><summary>A cat.", "one", None),
        ("<think>one</think>b</summary>", "<think>one", "b"),
    ],
)
def test_parse(completion, thought, summary):
    assert (SHORT.thought(completion), SHORT.parse(completion)) == (thought, summary)
    assert PromptTemplate().thought(completion) == ""


def test_an_end_token_closes_a_summary_but_never_a_thought():
    template = PromptTemplate(end_token_closes=True, thinking=Thinking())
    assert template.parse("one</think><summary>two", ended=True) == "two"
    assert template.parse("one two", ended=True) is None


@pytest.mark.parametrize(
    ("completion", "written"),
    [
        ("a long thought", ""),
        ("a long thought</thin", ""),
        ("one</think>", ""),
        ("one</think>\n <summ", ""),  # may yet become the opening tag
        ("one</think>\n <summary", ""),
        ("one</think><summary>", ""),
        ("one</think><summary> ab </summ", "ab"),
        ("one</think><summary><sum", ""),
        ("one</think>Here it is: <summ", "Here it is:"),  # counts as long as there is no tag
        ("one</think>Here it is: <summary>c", "c"),
        ("one</think><summarise", "<summarise"),
    ],
)
def test_written_so_far(completion, written):
    assert SHORT.written_so_far(completion) == written


SIGNS = st.text(alphabet="ab </sumary>\n", max_size=12)
PARTS = st.lists(st.one_of(SIGNS, st.sampled_from(["</think>", "<summary>", "<summ"])), max_size=6).map("".join)


@given(PARTS, PARTS)
def test_written_so_far_is_never_longer_than_the_summary_it_becomes(start, more):
    """Unless a further opening tag follows, which would begin another one."""
    whole = start + more + "</summary>"
    answer = whole.partition("</think>")[2]
    begun = start.partition("</think>")[2]
    final = SHORT.parse(whole)
    if final is not None and answer.count("</summary>") == 1 and answer.count("<summary>") == begun.count("<summary>"):
        assert len(SHORT.written_so_far(start)) <= len(final)


# ---- rollouts ----


class Script:
    """Draws given completions instead of sampling; the entropies are 1, 2, 3, ..."""

    def __init__(self, rows):
        self.rows, self.step = rows, 0

    def __call__(self, logits, temperature, numbers, group_size, left, top_k):
        drawn = torch.tensor([self.rows[i][min(self.step, len(self.rows[i]) - 1)] for i in left.tolist()])
        self.step += 1
        return drawn, torch.full((len(drawn),), -0.5), torch.full((len(drawn),), float(self.step))


def scripted(monkeypatch, texts, template, budget="10 chars", most=30, tokenizer=None):
    backbone = make_policy(dtype=torch.float32)
    tokenizer = tokenizer or backbone.tokenizer
    backbone.policy.passes = PaddedPasses(backbone.policy)
    end = [tokenizer.eos_token_id]
    rows = [encode_markup(tokenizer, t.removesuffix("</s>")) + end * t.endswith("</s>") for t in texts]
    vocabulary = backbone.policy.config.vocab_size  # an added token is drawn, but not read by the tiny model
    monkeypatch.setattr(rollout, "_draw", Script(rows))
    step = backbone.policy.passes.decoder.step
    monkeypatch.setattr(
        backbone.policy.passes.decoder, "step", lambda self, tokens: step(self, tokens.clamp_max(vocabulary - 1))
    )
    prompt = template.build(Document("d" * 100), Budget.parse(budget), make_byte_tokenizer())
    settings = SamplingSettings(max_new_tokens=most)
    (group,) = sample(backbone.policy, tokenizer, template, [prompt], len(texts), settings, [0])
    return group


def test_the_ways_to_end(monkeypatch):
    template = PromptTemplate("{document}{limit}", thinking=Thinking(20, ""))
    ended = {
        "ok</think><summary>1234567890</summary>junk": (Finish.CLOSED, "1234567890", "ok", 10),
        "</think>123</summary>": (Finish.CLOSED, "123", "", 8),
        "123456789012</think>a</summary>": (Finish.CLOSED, "a", "123456789012", 20),  # closed by its last token
        "1234567890123</think>a</summary>": (Finish.THOUGHT, None, "1234567890123</think", 20),
        "a thought longer than the budget": (Finish.THOUGHT, None, "a thought longer tha", 20),
        "no end</s>": (Finish.ENDED, None, "no end", 7),
        "a</think>no end</s>": (Finish.ENDED, None, "a", 9),
        "a</think><summary>12345678901": (Finish.OUTGROWN, None, "a", 9),
        "a</think>" + " " * 60: (Finish.CAPPED, None, "a", 9),
    }
    group = scripted(monkeypatch, list(ended), template)
    assert group.thoughts is not None
    found = zip(group.finish.tolist(), group.summaries, group.thoughts.texts, group.thoughts.lengths, strict=True)
    assert [(Finish(f), s, t, int(n)) for f, s, t, n in found] == list(ended.values())
    assert group.lengths.tolist() == [39, 21, 31, 20, 20, 7, 16, 9 + 20, 9 + 30]  # each cap counts its own
    # the masks part a completion in two
    assert torch.equal(group.thought_mask.sum(dim=1), group.thoughts.lengths)
    assert bool((group.thought_mask <= group.mask).all())
    assert group.entropies[1][group.thought_mask[1]].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


@pytest.mark.parametrize("budget", ["10 chars", "10 tokens"])
def test_budgets_are_blind_to_thoughts(budget, monkeypatch):
    template = PromptTemplate("{document}{limit}", thinking=Thinking(60, ""))
    thoughts = ["", "short", "t" * 52, "<summary>12345678901234567890</summary>"]
    for summary in ("<summary>1234567890</summary>", "<summary>12345678901</summary>", "123 456 789 0"):
        group = scripted(monkeypatch, [f"{thought}</think>{summary}" for thought in thoughts], template, budget)
        assert len(set(group.finish.tolist())) == 1
        assert len(set(group.summaries)) == 1
        assert len(set((group.lengths - group.thoughts.lengths).tolist())) == 1
    assert int(group.finish[0]) == Finish.OUTGROWN


@pytest.mark.parametrize("special", [False, True])
def test_a_closing_tag_that_is_one_token(special, monkeypatch):
    """Decoding leaves special tokens out, but not the one that closes the thought."""
    template = PromptTemplate("{document}{limit}", thinking=Thinking(20, ""))
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"], special_tokens=special)
    texts = ["ok</think><summary>one</summary>", "ok</think>b</think>c</summary>"]
    group = scripted(monkeypatch, texts, template, "20 chars", tokenizer=tokenizer)
    assert group.finish.tolist() == [Finish.CLOSED] * 2
    assert group.summaries == ["one", "bc" if special else "b</think>c"]  # a special token is never text
    assert (group.thoughts.lengths.tolist(), group.thoughts.texts) == ([3, 3], ["ok", "ok"])
    ids = group.token_ids[0][group.mask[0]].tolist()
    assert completion_text(tokenizer, ids, template) == texts[0]
    assert completion_text(tokenizer, ids) == texts[0].replace("</think>", "" if special else "</think>")


def test_without_thinking_there_are_no_thoughts(monkeypatch):
    group = scripted(monkeypatch, ["a</think>b</summary>"], PromptTemplate("{document}{limit}"), "20 chars")
    assert group.summaries == ["a</think>b"]
    assert group.thoughts is None
    assert not group.thought_mask.any()


# a random model hits one given byte now and then: many thoughts close, and some summaries
HITS = PromptTemplate("{document}\n{limit}\n", close_tag="H", thinking=Thinking(40, "", close_tag="U"))


def test_both_decoders_draw_the_same_completions():
    results = []
    for way in ("shared_prefix", "padded"):
        backbone = make_policy()
        choose_passes(backbone.policy, way)
        texts = ["A short one.", "A document that is quite a bit longer than the first."]
        prompts = [HITS.build(Document(text), Budget.parse("99 chars"), backbone.tokenizer) for text in texts]
        results.append(
            sample(backbone.policy, backbone.tokenizer, HITS, prompts, 16, SamplingSettings(1.0, 60), [1, 2])
        )
    finished = torch.cat([group.finish for group in results[0]]).tolist()
    assert {Finish.CLOSED, Finish.THOUGHT, Finish.CAPPED} <= set(finished)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one.token_ids, other.token_ids)
        assert torch.equal(one.finish, other.finish)
        assert one.thoughts.texts == other.thoughts.texts
        assert torch.allclose(one.log_probs, other.log_probs, atol=1e-6)


# ---- room ----


def test_the_context_holds_thought_and_summary():
    around = 1 + 1 + 17 + 8  # <s>, a sign, "999999 characters", "<think>\n"
    template = PromptTemplate("{document}|{limit}", thinking=Thinking(64, ""))
    asked = template, ScoreTemplate(frame="<<{summary}>>"), ["5 chars"], 30, make_byte_tokenizer()
    need = around + 64 + 30 + 50
    assert context_problems(*asked, need, 50) == []
    assert context_problems(*asked, need - 1, 50) == [
        f"data.max_tokens (50), prompt ({around} tokens around the document), model.prompt.thinking.max_tokens (64) "
        f"and model.rollout.max_new_tokens (30) take {need} tokens together, but the model reads {need - 1}: set "
        "data.max_tokens to 49 or less"
    ]
    (problem,) = context_problems(*asked, around + 94, 50)
    assert problem.endswith("set model.rollout.max_new_tokens or model.prompt.thinking.max_tokens lower")
    # a thought does not stand in front of a scored document: its frame is longer here
    scored = template, ScoreTemplate(frame="f" * 200 + "{summary}"), ["5 chars"], 30, make_byte_tokenizer()
    assert context_problems(*scored, 1 + 200 + 30 + 50, 50) == []
    # without a number, what a summary takes follows from its budget: 50 tokens, half more, its tags and a margin
    asked = template, ScoreTemplate(frame="<<{summary}>>"), ["50 tokens"], None, make_byte_tokenizer()
    need = around + 64 + 50 + 19 + 16 + 50
    assert context_problems(*asked, need, 50) == []
    assert context_problems(*asked, need - 1, 50) == [
        f"data.max_tokens (50), prompt ({around} tokens around the document), model.prompt.thinking.max_tokens (64) "
        f"and the longest summary (85 tokens, of 50 tokens) take {need} tokens together, but the model reads "
        f"{need - 1}: set data.max_tokens to 49 or less"
    ]


def test_a_cap_holds_the_tags_that_the_policy_writes():
    template = PromptTemplate("{document}|{limit}", thinking=Thinking(64, ""))
    asked = ScoreTemplate(), ["7 tokens"]
    least = 7 + len("<summary></summary>")
    assert context_problems(template, *asked, least, make_byte_tokenizer(), 4096, 50) == []
    assert context_problems(template, *asked, least - 1, make_byte_tokenizer(), 4096, 50) == [
        f"model.rollout.max_new_tokens is {least - 1}, but a summary of 7 tokens and its tags take {least} tokens: set "
        f"it to {least} or more, or leave it out, and it follows from each budget"
    ]


@pytest.mark.parametrize(("given", "summary"), [(None, 7 + 19 + 16), (9, 9)])
def test_the_caps_of_thought_and_summary_add_up(given, summary):
    template = PromptTemplate("{document}|{limit}", thinking=Thinking(64, ""))
    tokenizer = make_byte_tokenizer()
    prompt = template.build(Document("d" * 50), Budget.parse("7 tokens"), tokenizer)
    tokens = len(prompt.token_ids)
    assert completion_caps([prompt], given, template, tokenizer, 4096) == [64 + summary]
    least = 64 + (9 if given else 7 + 19)  # where the context is short, the summary gives way, never the thought
    assert completion_caps([prompt], given, template, tokenizer, tokens + least) == [least]
    with pytest.raises(DataError, match=f"beside {least} new ones"):
        completion_caps([prompt], given, template, tokenizer, tokens + least - 1)


def test_a_summary_has_the_room_of_its_budget_behind_a_thought_of_any_length(monkeypatch):
    template = PromptTemplate("{document}{limit}", thinking=Thinking(64, ""))
    texts = [f"{'t' * n}</think>" + " " * 90 for n in (0, 20, 56)]
    group = scripted(monkeypatch, texts, template, "7 tokens", most=None)
    assert group.finish.tolist() == [Finish.CAPPED] * 3
    assert (group.lengths - group.thoughts.lengths).tolist() == [7 + 19 + 16] * 3


def test_the_engine_plans_for_thought_and_summary(monkeypatch):
    backbone = Backbone(make_tiny_model(context=200), make_byte_tokenizer(), lora=None)
    plan = MemoryPlan(Costs(backbone), MemorySettings(), Limit("scoring pass", "tokens", 64))
    planned = []
    rows = plan.rows
    monkeypatch.setattr(plan, "rows", lambda lengths, size, new: planned.append(new) or rows(lengths, size, new))
    engine = Engine(backbone, plan, HITS, "shared_prefix")
    fits = HITS.build(Document("d" * 90), Budget.parse("99 chars"), backbone.tokenizer)
    room = 200 - 40 - 30
    tokens = len(fits.token_ids)
    settings = SamplingSettings(1.0, 30)
    engine.sample([fits], 2, settings, [0])
    assert planned == [70]
    too_long = HITS.build(Document("d" * (91 + room - tokens)), Budget.parse("99 chars"), backbone.tokenizer)
    with pytest.raises(DataError, match=f"has {room + 1} tokens, but the model has room for {room} beside 70 new ones"):
        engine.sample([too_long], 2, settings, [0])


def test_a_watch_reads_no_more_than_it_must():
    """Long thoughts are not decoded whole at every token."""
    read = []

    class Counting:
        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

        def decode(self, ids, **settings):
            read.append(len(ids))
            return self.tokenizer.decode(ids, **settings)

    tokenizer = make_byte_tokenizer()
    template = PromptTemplate(thinking=Thinking(1024))
    watch = Watch(Prompt(Document("x"), Budget.parse("9 chars"), "", (1,)), template, Counting(tokenizer))
    completion = Completion()
    for token in encode(tokenizer, "t" * 900 + "</think>abc</summary>"):
        completion.add(token, 0.0, 0.0)
        completion.finish = watch.finish(completion, 30)
    assert (completion.finish, completion.thought, watch.summary(completion)) == (Finish.CLOSED, 908, "abc")
    assert max(read) < 40
