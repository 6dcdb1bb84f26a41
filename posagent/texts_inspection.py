"""Texts for people, in English and Chinese: what the doctor finds.

Rules: as those of posagent.texts.
"""

from __future__ import annotations

from posagent import texts
from posagent.texts import Answer, localized


def doctor_lines(answer: Answer, lang: str) -> list[str]:
    """What is in order first: what is wrong, with its remedies, stands next to the prompt."""
    levels = {
        "ok": texts.say("ok", lang),
        "skipped": texts.say("skipped", lang),
        "warning": texts.say("warning", lang),
        "fault": texts.say("fault", lang),
    }
    lines = []
    for level, word in levels.items():
        for finding in answer["findings"]:
            if finding["level"] != level:
                continue
            detail = f": {finding['detail']}" if finding["detail"] else ""
            lines.append(f"{word}: {localized(finding, 'title', lang)}{detail} [{finding['check']}]")
            if level in ("fault", "warning"):
                lines.append(f"  {texts.say('next_step', lang)}: {localized(finding, 'remedy', lang)}")
    counts = answer["counts"]
    numbers = (counts[level] for level in ("ok", "fault", "warning", "skipped"))
    return [*lines, texts.say("doctor_sum", lang, *numbers)]
