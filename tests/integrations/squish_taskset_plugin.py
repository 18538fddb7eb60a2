"""A taskset and a harness as verifiers finds them: by this module's name.

verifiers' own chat harness installs its program with uv at run time; this one makes the same request here.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import verifiers.v1 as vf

from squish_pl.integrations.verifiers import SquishTaskset


class OneRequest(vf.Harness[vf.HarnessConfig]):
    """Asks the model once."""

    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: Any, data: Any, *_: Any
    ) -> vf.ProgramResult:
        body = {"model": ctx.model, "messages": [{"role": "user", "content": data.prompt}]}
        request = urllib.request.Request(
            f"{endpoint}/chat/completions",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
        )
        reply = await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=30).read().decode())
        return vf.ProgramResult(exit_code=0, stdout=reply, stderr="")


__all__ = ["OneRequest", "SquishTaskset"]
