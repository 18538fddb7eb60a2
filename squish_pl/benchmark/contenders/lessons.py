"""What an endpoint refuses in a request, learnt from its first refusal."""

from __future__ import annotations

import logging
import re
from typing import Any

log = logging.getLogger(__name__)

_OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_CAN_GO = ("temperature", "reasoning_effort", "seed")
_REFUSED = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|forbidden|not accept"
    r"|does not (take|exist)|deprecated",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(
    r"too (large|high|many|big)|exceed|larger|greater|more than|at most|maximum|context", re.IGNORECASE
)


class Lessons:
    """The fields that an endpoint does not take, and what it is sent in their place.

    A limit on the tokens is sent under its other name; temperature, reasoning_effort and seed are left to the server.
    Nothing else is learnt: a request that means something else is not the one that was asked for.

    Args:
        name: Of the contender, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._instead: dict[str, str | None] = {}

    def apply(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request as the endpoint takes it.

        Args:
            request: Arguments of `chat.completions.create`; fields may also stand in its `extra_body`.
        """
        changed = self._changed(request)
        if isinstance(changed.get("extra_body"), dict):
            changed["extra_body"] = self._changed(changed["extra_body"])
        return changed

    def learn(self, sent: dict[str, Any], error: object) -> bool:
        """Looks for a field that an error refuses.

        Args:
            sent: The refused request, as it was sent.
            error: The error's body, {"message": ..., "param": ...} or FastAPI's {"detail": [{"loc": ..., "msg": ...}]}.

        Returns:
            Whether the request can be sent again, otherwise.
        """
        field = self._refused(sent, error)
        if field is None:
            return False
        if field in self._instead:  # by a request that was under way at the same time
            return True
        instead = _OTHER_NAME.get(field)
        if instead in self._instead:
            return False  # it takes neither
        self._instead[field] = instead
        what = f"which is sent as {instead}" if instead else "which is left to it"
        log.warning("%s: the endpoint does not take %s, %s from now on", self._name, field, what)
        return True

    def _changed(self, fields: dict[str, Any]) -> dict[str, Any]:
        changed = {}
        for name, value in fields.items():
            new = self._instead.get(name, name)
            if new is not None:
                changed[new] = value
        return changed

    def _refused(self, sent: dict[str, Any], error: object) -> str | None:
        """The field that the error names first, of those that were sent and can be changed."""
        text = _said(error)
        if not _REFUSED.search(text):
            return None
        names = _CAN_GO if _TOO_LARGE.search(text) else (*_OTHER_NAME, *_CAN_GO)  # the number is refused, not the name
        fields = [name for name in names if name in {**sent, **(sent.get("extra_body") or {})}]
        places = {name: match.start() for name in fields if (match := re.search(rf"\b{name}\b", text))}
        return min(places, key=lambda name: places[name], default=None)


def _said(error: object) -> str:
    """An error's own words; not the request, which some servers repeat in it."""
    if not isinstance(error, dict):
        return str(error) if isinstance(error, str) else ""
    detail = error.get("detail")
    items = detail if isinstance(detail, list) else []
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter: what the provider said
    words = [
        raw,
        error.get("param"),
        error.get("message"),
        error.get("msg"),
        detail if isinstance(detail, str) else None,
    ]
    words += [word for item in items if isinstance(item, dict) for word in (item.get("loc"), item.get("msg"))]
    return " ".join(str(word) for word in words if word)
