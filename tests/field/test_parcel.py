"""A part of a bundle is as good as the whole: the terminal installs it; it is smaller, and always the same bytes."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.field.parcel import Parcels
from posagent.release import bundle
from posagent.sim import image
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import HARDWARE, Desk


def running(terminal: InProcessTerminal) -> str:
    status = terminal.ask("status")
    return str(status["slots"][status["booted"]]["digest"])


def digest_of(desk: Desk, version: str, folder: Path) -> str:
    """Of an image, as bundles name it."""
    return str(Parcels(desk.bundles[version], folder)._manifests[0].image_sha256)


def test_a_bundle_says_what_it_brings(desk: Desk, tmp_path: Path) -> None:
    parcels = Parcels(desk.bundles["2.0.0"], tmp_path)
    assert (parcels.version, parcels.installs(digest_of(desk, "2.0.0", tmp_path), "")) == ("2.0.0", True)
    assert not parcels.installs(digest_of(desk, "1.0.0", tmp_path), "2.0.0"), "a version may be built twice"
    assert parcels.installs("", "2.0.0") and not parcels.installs("", "1.0.0"), "from the factory"
    assert parcels.label() == {
        "file": "2.0.0.bundle",
        "version": "2.0.0",
        "bytes": desk.bundles["2.0.0"].stat().st_size,
        "sha256": parcels.label()["sha256"],
    }


def test_a_terminal_with_the_deltas_image_is_sent_the_delta_alone(
    desk: Desk, delta_bundle: Path, tmp_path: Path, in_process: Callable[..., InProcessTerminal]
) -> None:
    parcels = Parcels(delta_bundle, tmp_path)
    part, rest = parcels.for_terminal(digest_of(desk, "1.0.0", tmp_path))
    assert rest == delta_bundle
    assert part.stat().st_size < delta_bundle.stat().st_size / 4
    with tarfile.open(part) as tar:
        assert sum(name.startswith("targets/") for name in tar.getnames()) == 1
    terminal = in_process()
    terminal.ask("update", source=str(part))
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["version"]) == ("committed", "2.0.0")
    assert parcels.installs(running(terminal), "")


def test_a_terminal_fresh_from_the_factory_is_sent_deltas_first_and_finds_its_own(
    delta_bundle: Path, tmp_path: Path, in_process: Callable[..., InProcessTerminal]
) -> None:
    terminal = in_process()
    assert running(terminal) == ""
    part, alone, whole = Parcels(delta_bundle, tmp_path).for_terminal("")
    assert part.stat().st_size < alone.stat().st_size / 4 and whole == delta_bundle
    terminal.ask("update", source=str(part))
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_deltas_that_are_not_small_are_not_tried_on_a_venture(desk: Desk, tmp_path: Path) -> None:
    half = tmp_path / "half"
    image_bytes = desk.images["2.0.0"].read_bytes()
    noise = (desk.tree / "application").read_bytes()
    at = image_bytes.index(noise[:4096])
    half.write_bytes(image_bytes[:at] + bytes(len(noise) // 2) + image_bytes[at + len(noise) // 2 :])
    made = tmp_path / "half.bundle"
    bundle.build(
        desk.images["2.0.0"], version="2.0.0", compatible=[HARDWARE], keys_dir=desk.keys, sources=[half], out=made
    )
    parcels = Parcels(made, tmp_path)
    assert any(one.source_sha256 for one in parcels._manifests)
    part, rest = parcels.for_terminal("")
    with tarfile.open(part) as tar:
        assert not any(".from-" in name for name in tar.getnames())
    assert rest == made


def test_any_other_terminal_is_sent_the_smallest_that_needs_no_source(
    delta_bundle: Path, tmp_path: Path, in_process: Callable[..., InProcessTerminal]
) -> None:
    part, _ = Parcels(delta_bundle, tmp_path).for_terminal("0" * 64)
    with tarfile.open(delta_bundle) as tar:
        sizes = {one.name: one.size for one in tar if one.name.startswith("targets/")}
    with tarfile.open(part) as tar:
        (sent,) = [one.name for one in tar if one.name.startswith("targets/")]
    assert sizes[sent] == min(size for name, size in sizes.items() if ".from-" not in name)
    terminal = in_process()
    terminal.ask("update", source=str(part))
    assert terminal.run_to_idle()["outcome"] == "committed"


@pytest.mark.parametrize("kept", ["whole", "system"])
def test_of_two_payloads_that_make_the_same_either_is_enough(
    desk: Desk, tmp_path: Path, kept: str, in_process: Callable[..., InProcessTerminal]
) -> None:
    tree, out = tmp_path / "tree", tmp_path / "two.bundle"
    tree.mkdir()
    (tree / "words").write_text("".join(f"{number % 977} of {number}, " for number in range(200_000)))
    made = image.build(tmp_path / "image", "2.0.0", tree=tree)
    bundle.build(made, version="2.0.0", compatible=[HARDWARE], keys_dir=desk.keys, out=out, data_bytes=4096)
    parcels = Parcels(out, tmp_path)
    names = {one.target: one.member for one in parcels._manifests}
    assert set(names) == {"whole.payload", "system.payload"}, "small operations pack worse"
    chosen = f"targets/{names[f'{kept}.payload']}"
    part = parcels._cut(
        [one for one in parcels._members if one.name.startswith("metadata/") or one.name == chosen], "part.bundle"
    )
    terminal = in_process()
    terminal.ask("update", source=str(part))
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_a_part_is_the_same_each_time(desk: Desk, delta_bundle: Path, tmp_path: Path) -> None:
    digest = digest_of(desk, "1.0.0", tmp_path)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    first, second = (Parcels(delta_bundle, folder).for_terminal(digest)[0].read_bytes() for folder in folders)
    assert first == second, "so that an upload goes on where the last visit's ended"


def test_what_is_no_bundle_is_told(desk: Desk, tmp_path: Path) -> None:
    for name, data, code in (
        ("text", b"hello" * 500, "bundle_unreadable"),
        ("cut", desk.bundles["2.0.0"].read_bytes()[:3000], "bundle_unreadable"),
        ("empty", bytes(10240), "bundle_unreadable"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PosagentError) as caught:
            Parcels(tmp_path / name, tmp_path)
        assert caught.value.code == code, name
    with pytest.raises(PosagentError) as caught:
        Parcels(tmp_path / "gone", tmp_path)
    assert caught.value.code == "laptop_io"
