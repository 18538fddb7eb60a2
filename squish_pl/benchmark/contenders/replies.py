"""What a chat endpoint sends back."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from squish_pl.policy.prompts import PromptTemplate


def _text(value: Any) -> str | None:
    """A text, or the texts among the parts that some servers send in its place: [{"type": "text", "text": ...}]."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    texts = [
        part if isinstance(part, str) else part.get("text")
        for part in parts
        if isinstance(part, str) or (isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"))
    ]
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if found else None  # whatever else it is, an answer that was paid for is not lost for it


Text = Annotated[str | None, BeforeValidator(_text)]


class Message(BaseModel):
    """What the model wrote; its reasoning stands in a field of its own, whose name differs between servers."""

    content: Text = None
    refusal: Text = None
    reasoning: Text = None
    reasoning_content: Text = None

    @model_validator(mode="before")
    @classmethod
    def _refusal_part(cls, value: Any) -> Any:
        """A refusal may be a part of the content, too."""
        content = value.get("content") if isinstance(value, dict) else None
        for part in content if isinstance(content, list) else []:
            if isinstance(part, dict) and part.get("type") == "refusal" and not value.get("refusal"):
                return {**value, "refusal": part.get("refusal")}
        return value


class Choice(BaseModel):
    """One answer of a reply."""

    message: Message | None = None
    finish_reason: Text = None
    error: Any = None


class Usage(BaseModel):
    """Tokens read and written, and the cost in US dollars where the server tells it."""

    prompt_tokens: NonNegativeInt | None = None
    completion_tokens: NonNegativeInt | None = None
    cost: Annotated[FiniteFloat, Field(ge=0)] | None = None


class Reply(BaseModel):
    """The fields of a chat completion that are read here; servers differ in the others.

    An `error` is an object, or a text, in the body of an answer with status 200.
    """

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None

    @field_validator("usage", mode="wrap")
    @classmethod
    def _or_none(cls, value: object, handler: ValidatorFunctionWrapHandler) -> Usage | None:
        try:
            return handler(value)
        except ValidationError:
            return None  # an odd bill is no reason to lose an answer that was paid for


def answer_text(choice: Choice, template: PromptTemplate) -> str:
    """What the model answered, as text.

    That is the message's content, whatever its reasoning says. But some servers take a whole answer for reasoning
    and leave the content empty: one that came to its end, with the closing tag, is an answer.
    """
    message = choice.message or Message()
    if message.content or choice.finish_reason == "length":
        return message.content or ""
    thought = message.reasoning_content or message.reasoning or ""
    return thought if thought.rstrip().endswith(template.close_tag) else ""
