"""What the power gate says to the person in front of the terminal, in English and Chinese."""

from __future__ import annotations

import math
from collections.abc import Sequence

Said = tuple[str, str]

MAINS_ONLY = ("runs on mains, has no battery", "市电供电，无电池")
NO_BATTERY = ("no battery is seen", "未检测到电池")
LEVEL_UNKNOWN = ("the battery level is not known", "电池电量未知")
NEED_UNKNOWN = ("it is not known how long it takes", "所需时间未知")
NOT_ON_CHARGER = ("not on the charger", "未接充电器")

WEAK = ("the charger is too weak", "充电器功率不足")
NOT_CHARGED = ("on the charger, but not charging", "已接充电器但未充电")
WORN = ("the battery is worn", "电池已老化")
COLD = ("the battery is cold", "电池温度偏低")
HOT = ("the battery is hot", "电池温度偏高")

CONNECT = ("Put the terminal on its charger.", "请将终端接上充电器。")
SEAT_BATTERY = (
    "Check that the battery is seated; if this stays, call service.",
    "请检查电池是否装好；如仍有问题请联系服务商。",
)
CALL_SERVICE = ("Call service; the terminal keeps working.", "请联系服务商；终端可继续使用。")
BETTER_CHARGER = (
    "Use the terminal's own charger at a wall socket; if this stays, call service.",
    "请使用原装充电器并直接接墙上插座；如仍有问题请联系服务商。",
)
CHECK_CONTACTS = (
    "Check the charger's plug and contacts; if this stays, call service.",
    "请检查充电器插头与触点；如仍有问题请联系服务商。",
)
RISES_NOT = (
    "The level does not rise: check the charger and its contacts; if this stays, call service.",
    "电量不再上升：请检查充电器与触点；如仍有问题请联系服务商。",
)
BATTERY_SPENT = (
    "Call service: the battery holds too little for this update and should be replaced.",
    "请联系服务商：电池容量不足以完成升级，应更换电池。",
)
WARM_UP = ("Bring the terminal to a warmer place and wait.", "请将终端移至温暖处并稍候。")
COOL_DOWN = (
    "Take the terminal out of the sun, let it cool down; if this stays, call service.",
    "请避免阳光直射，待终端冷却；如仍有问题请联系服务商。",
)


def too_cold(temperature_c: float, least_c: float) -> Said:
    return (
        f"the battery has {temperature_c:.0f} °C, needs {least_c:.0f} °C",
        f"电池温度 {temperature_c:.0f} °C，需要至少 {least_c:.0f} °C",
    )


def too_hot(temperature_c: float, most_c: float) -> Said:
    return (
        f"the battery has {temperature_c:.0f} °C, at most {most_c:.0f} °C is allowed",
        f"电池温度 {temperature_c:.0f} °C，不得超过 {most_c:.0f} °C",
    )


def have_and_need(percent: int, needed_percent: int, for_s: float | None) -> Said:
    """With how long it takes, where that is what the need comes from."""
    said = f"battery {percent} %, needs {needed_percent} %"
    if for_s is None:
        return said, f"电量 {percent} %，需要 {needed_percent} %"
    work, work_zh = duration(for_s)
    return f"{said} for {work} of work", f"电量 {percent} %，{work_zh}的操作需要 {needed_percent} %"


def too_small(need_wh: float, usable_wh: float) -> Said:
    return (
        f"needs {need_wh:.1f} Wh and a reserve, the full battery gives {usable_wh:.1f} Wh",
        f"需要 {need_wh:.1f} Wh 并留有余量，电池充满仅有 {usable_wh:.1f} Wh",
    )


def carried(need_wh: float, usable_wh: float) -> Said:
    said = too_small(need_wh, usable_wh)
    return f"full and on the charger ({said[0]}); leave it there", f"已充满且接充电器（{said[1]}）；请勿拔下"


def sags(told_percent: int) -> Said:
    return (
        f"it shows {told_percent} %, but its voltage is too low for that",
        f"显示 {told_percent} %，但电压偏低",
    )


def with_notes(said: Said, notes: Sequence[Said]) -> Said:
    if not notes:
        return said
    return f"{said[0]}; {', '.join(note[0] for note in notes)}", f"{said[1]}；{'、'.join(note[1] for note in notes)}"


def duration(seconds: float) -> Said:
    """Rounded up: minutes, and hours from 100 minutes on."""
    minutes = max(1, math.ceil(seconds / 60))
    if minutes < 100:
        return f"{minutes} min", f"{minutes} 分钟"
    hours = math.ceil(minutes / 30) / 2
    return f"{hours:g} h", f"{hours:g} 小时"


def charge(seconds: float, percent: int) -> Said:
    wait, wait_zh = duration(seconds)
    return (
        f"Leave the terminal on its charger: charge about {wait}, to at least {percent} %.",
        f"请继续充电约 {wait_zh}，至 {percent} % 以上。",
    )


def connect(seconds: float) -> Said:
    """Zero seconds: being on the charger is enough."""
    if seconds <= 0:
        return CONNECT
    wait, wait_zh = duration(seconds)
    return f"Put the terminal on its charger: charge about {wait}.", f"请将终端接上充电器，充电约 {wait_zh}。"


def fill(seconds: float) -> Said:
    wait, wait_zh = duration(seconds)
    return (
        f"Leave the terminal on its charger: it can start when the battery is full, in about {wait}.",
        f"请勿拔下充电器：电池充满后可开始，约 {wait_zh}。",
    )


def connect_and_fill(seconds: float) -> Said:
    wait, wait_zh = duration(seconds)
    return (
        f"Put the terminal on its charger and leave it there: it can start when full, in about {wait}.",
        f"请将终端接上充电器并保持连接：充满后可开始，约 {wait_zh}。",
    )
