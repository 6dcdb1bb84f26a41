"""The API as one line of the console uses it: every command is heard by the audit log, dangerous ones are signed for.

Both modes of the line ask this instead of the agent itself. A dangerous verb is answered with the error `sign_again`,
whose `challenge` names the exact action; when that was signed (access.answer), the same command again is carried out.
Rules: a command that is not answered at once is heard of before anything else happens, and again when it ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from posagent.console.access import Access
from posagent.console.question import Api
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Message

Reply = Callable[[Message], None]
HangUp = Callable[[], None]

_BUNDLE = re.compile(r"sha256:[0-9a-f]{64}")
WORD_CHARACTERS_MAX = 64


class LineApi:
    """question.Api over the agent's `api`, for the line that `access` guards."""

    def __init__(self, api: Api, access: Access) -> None:
        self._api = api
        self._access = access

    def call(self, verb: str, args: dict[str, Any], reply: Reply, caller: str) -> HangUp:
        ended, hear = False, self._access.ear()

        def answer(message: Message) -> None:
            nonlocal ended
            if "progress" not in message and not ended:
                ended = True
                hear(verb, args, _code(message))
            reply(message)

        ask = {"allow": self._allow, "rollback": self._rollback}.get(verb)
        hang_up = self._api.call(verb, args, answer, caller) if ask is None else ask(args, answer, caller)
        if not ended:
            hear(verb, args, "begun")

        def give_up() -> None:
            nonlocal ended
            hang_up()
            if not ended:
                ended = True
                hear(verb, args, "given_up")

        return give_up

    def _allow(self, args: dict[str, Any], reply: Reply, _: str) -> HangUp:
        """`{bundle}`: have it installed although its validity has ended. The installer has seen the signature itself
        and remembers: nothing is left to do."""
        bundle = args.get("bundle")
        if not isinstance(bundle, str) or not _BUNDLE.fullmatch(bundle):
            error = PosagentError(
                "bad_request",
                "allow sha256:DIGEST; the digest is told where the bundle is refused",
                detail_zh="allow sha256:摘要；拒绝升级包时会显示该摘要",
            )
            reply({"error": error.as_dict()})
        elif self._signed_for(f"allow {bundle}", reply):
            reply({"result": {"allowed": bundle}})
        return lambda: None

    def _rollback(self, _: dict[str, Any], reply: Reply, caller: str) -> HangUp:
        """To the version in the other slot, which is named in what is signed, and asked for by slot and version."""
        calls: list[HangUp] = []

        def known(message: Message) -> None:
            if "progress" in message:
                return
            try:
                target = _target(message)
            except PosagentError as error:
                reply({"error": error.as_dict()})
            else:
                if self._signed_for(f"rollback {target['slot']} {target['version']}", reply):
                    calls.append(self._api.call("rollback", target, reply, caller))

        calls.append(self._api.call("slots", {}, known, caller))

        def hang_up() -> None:
            for one in calls:
                one()

        return hang_up

    def _signed_for(self, action: str, reply: Reply) -> bool:
        """Whether it was; else a challenge is the answer."""
        if self._access.signed(action):
            return True
        try:
            challenge = self._access.sign(action)
        except PosagentError as error:
            reply({"error": error.as_dict()})
        else:
            wanted = Refusal(
                "sign_again", f"to be signed: {action}", detail_zh=f"待签名：{action}", challenge=challenge
            )
            reply({"error": wanted.as_dict()})
        return False


def _target(slots: Message) -> dict[str, Any]:
    """Slot and version that a rollback would go to. Raises PosagentError: why there is none."""
    if "error" in slots:
        raise PosagentError.from_dict(slots["error"])
    try:
        back = slots["result"]["rollback"]
        if back["possible"] is not True:
            told = {name: back[name] for name in ("detail", "detail_zh", "remedy", "remedy_zh") if name in back}
            raise PosagentError.from_dict({**told, "code": back["refusal"]})
        target = {"slot": back["slot"], "version": back["version"]}
    except (KeyError, TypeError):
        raise PosagentError("internal", "the answer of the agent is not understood") from None
    if not all(isinstance(one, str) and 0 < len(one) <= WORD_CHARACTERS_MAX for one in target.values()):
        raise PosagentError("internal", "slot and version of the rollback cannot be signed for")
    return target


def _code(message: Message) -> str:
    """The code that a command ended with."""
    if "error" not in message:
        return "ok"
    error = message["error"]
    return str(error.get("code", "internal")) if isinstance(error, dict) else "internal"
