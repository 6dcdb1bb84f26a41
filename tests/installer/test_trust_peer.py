"""Our short client workflow and python-tuf's own reach the same verdict, on good and on bent repositories."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata
from tuf.ngclient import Updater
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType
from tuf.ngclient.fetcher import FetcherInterface

from posagent.core.errors import PosagentError
from posagent.release import files, keys
from tests.installer.terminal import Terminal
from tests.release.desk import CHAIN, DAY_S, NOW_S, Desk, Parts, name_of, pack, unpack

ROUNDS = 300


def peer_accepts(root: bytes, seen: Parts, offered: Parts) -> bool:
    """What python-tuf's client says to `offered` after it has accepted `seen`, at the time NOW_S."""
    trusted = TrustedMetadataSet(root, EnvelopeType.METADATA)
    trusted.reference_time = keys.date(NOW_S)
    try:
        while (data := offered.get(f"metadata/{trusted.root.version + 1}.root.json")) is not None:
            trusted.update_root(data)
        with contextlib.suppress(RepositoryError):
            trusted.update_timestamp(seen["metadata/timestamp.json"])
        trusted.update_timestamp(offered["metadata/timestamp.json"])
        with contextlib.suppress(RepositoryError):
            trusted.update_snapshot(seen[name_of(seen, "snapshot")], trusted=True)
        number = trusted.timestamp.snapshot_meta.version
        trusted.update_snapshot(offered[f"metadata/{number}.snapshot.json"])
        number = trusted.snapshot.meta["targets.json"].version
        trusted.update_targets(offered[f"metadata/{number}.targets.json"])
    except (RepositoryError, KeyError):
        return False
    return True


def bend(desk: Desk, data: bytes, dice: random.Random) -> bytes:
    """The bundle with one or two things changed that a thief, a fault or a confused desk could change."""
    for _ in range(dice.choice([1, 1, 2])):
        role = dice.choice(CHAIN)
        kind = dice.choice(["signed", "signed", "signed", "bytes", "signatures", "dropped"])
        parts = unpack(data)
        if kind == "signed":
            data = desk.change(data, role, lambda part: _change(part, dice), signatures=dice.choice([9, 9, 9, 1]))
            continue
        name = name_of(parts, role)
        if kind == "bytes":
            bent = bytearray(parts[name])
            bent[dice.randrange(len(bent))] = dice.randrange(256)
            parts[name] = bytes(bent)
        elif kind == "signatures":
            part: Metadata[Any] = Metadata.from_bytes(parts[name])
            del part.signatures[dice.choice(list(part.signatures))]
            parts[name] = part.to_bytes()
        else:
            del parts[name]
        return pack(parts)
    return data


def _change(part: Any, dice: random.Random) -> None:
    what = dice.choice(["nothing", "version", "expires", "extra", "extra", "below"])
    if what == "version":
        part.version = dice.choice([1, 4, 5, 6, 7, 100])
    elif what == "expires":
        part.expires = keys.date(NOW_S + dice.choice([-DAY_S, -1, 0, 1, DAY_S]))
    elif what == "extra":
        part.unrecognized_fields["x-other"] = {"a": [1, "b"]}
    elif what == "below" and part.type == "timestamp":
        part.snapshot_meta.version = dice.choice([4, 5, 6, 7])
    elif what == "below" and part.type == "snapshot":
        part.meta["targets.json"].version = dice.choice([4, 5, 6, 7])


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, bytes, list[bytes]]]:
    """A desk, the bundle that was accepted, and offers: under the same root, and after its renewal."""
    desk = Desk(tmp_path_factory.mktemp("peer"))
    seen = desk.build(5)
    offers = [desk.build(6)]
    keys.renew(desk.keys, now_s=NOW_S)
    yield desk, seen, [*offers, desk.build(6), desk.build(4)]


def test_our_verdict_is_python_tufs_verdict_on_bent_repositories(
    repositories: tuple[Desk, bytes, list[bytes]],
) -> None:
    desk, seen, offers = repositories
    dice = random.Random(20261123)
    verdicts = {True: 0, False: 0}
    for number in range(ROUNDS):
        offered = bend(desk, dice.choices(offers, [2, 2, 1])[0], dice)
        terminal = Terminal(desk.first_root)
        terminal.verify(seen)
        try:
            terminal.verify(offered)
            ours = True
        except PosagentError:
            ours = False
        parts = unpack(offered)
        if _same_timestamp_version(parts, unpack(seen)):
            continue  # python-tuf keeps the old file then; a terminal may verify a bundle twice
        assert ours == peer_accepts(desk.first_root, unpack(seen), parts), number
        verdicts[ours] += 1
    assert min(verdicts.values()) > ROUNDS // 10, verdicts


def _same_timestamp_version(one: Parts, other: Parts) -> bool:
    try:
        versions = [Metadata.from_bytes(parts["metadata/timestamp.json"]).signed.version for parts in (one, other)]
    except (RepositoryError, KeyError):
        return False
    return bool(versions[0] == versions[1])


class _Unpacked(FetcherInterface):
    """An unpacked bundle as a web server would serve it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix("https://desk/")
        if name not in self._parts:
            raise DownloadHTTPError(name, 404)
        return iter([self._parts[name]])


def test_an_unpacked_bundle_is_a_repository_for_any_tuf_client(desk: Desk, tmp_path: Path) -> None:
    parts = unpack(desk.build(5, now_s=files.now_s()))
    client = Updater(
        str(tmp_path),
        "https://desk/metadata",
        str(tmp_path),
        "https://desk/targets",
        fetcher=_Unpacked(parts),
        bootstrap=desk.first_root,
    )
    target = client.get_targetinfo("system.payload")
    assert target is not None
    assert Path(client.download_target(target)).stat().st_size == target.length
