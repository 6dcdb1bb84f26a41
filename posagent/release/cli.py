"""`posagent-release`: what a release engineer types to make keys, build bundles and publish them, and to open reports
from terminals."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from posagent.core import manifest
from posagent.core.errors import EXIT_CODES, PosagentError
from posagent.release import bundle, keys, payload, repository, support

BAR_WIDTH = 30


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, else core.errors.EXIT_CODES)."""
    args = _parser().parse_args(words)
    try:
        result: dict[str, Any] = args.run(args)
    except PosagentError as error:
        if args.json:
            print(json.dumps({"error": error.as_dict()}, ensure_ascii=False))
        else:
            print(f"{error.code}: {error.detail}\n{error.spec.remedy}", file=sys.stderr)
        return EXIT_CODES[error.spec.kind]
    print(json.dumps({"result": result}) if args.json else "\n".join(_lines(result)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="posagent-release", description=__doc__, allow_abbrev=False)
    groups = parser.add_subparsers(required=True, metavar="keys|bundle|repo|support")
    _keys(groups.add_parser("keys", help="make and renew signing keys").add_subparsers(required=True))
    _bundle(groups.add_parser("bundle", help="build a bundle, look into one").add_subparsers(required=True))
    _repo(groups.add_parser("repo", help="publish bundles").add_subparsers(required=True))
    _support(groups.add_parser("support", help="open reports from terminals").add_subparsers(required=True))
    return parser


def _command(group: Any, name: str, purpose: str, run: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = group.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=run)
    return command


def _keys(group: Any) -> None:
    init = _command(group, "init", "Make all keys and the root that ships in the system image.", _init)
    init.add_argument("dir", type=Path)
    renew = _command(group, "renew", "Sign the next root, with new keys where asked.", _renew)
    renew.add_argument("dir", type=Path)
    renew.add_argument("--replace", action="append", default=[], metavar="NAME", help=f"one of {', '.join(keys.NAMES)}")
    for command in (init, renew):
        command.add_argument("--root-days", type=int, default=keys.ROOT_DAYS, help="validity (%(default)s)")


def _bundle(group: Any) -> None:
    build = _command(group, "build", "Build a signed bundle from a system image, parameters, or both.", _build)
    build.add_argument("--image", type=Path, help="the system image; without one the bundle brings parameters only")
    build.add_argument("--parameters", type=Path, metavar="FILE", help="the acquirer's parameters, a JSON object")
    build.add_argument("--parameters-version", default="", metavar="VERSION", help="default: that of the bundle")
    build.add_argument("--schema", type=Path, metavar="FILE", help="JSON Schema of the image, held against them first")
    build.add_argument(
        "--from",
        dest="sources",
        type=Path,
        action="append",
        default=[],
        metavar="OLD",
        help="image for a delta; may be repeated",
    )
    build.add_argument(
        "--for",
        dest="groups",
        type=Path,
        action="append",
        default=[],
        metavar="PUBLIC_KEY",
        help="encrypt for the terminals with this X25519 key (PEM); may be repeated",
    )
    build.add_argument(
        "--no-whole",
        dest="whole",
        action="store_false",
        help="a smaller bundle file; terminals that find little of the image fetch more",
    )
    build.add_argument("--version", required=True)
    build.add_argument("--compatible", action="append", required=True, metavar="HARDWARE", help="may be repeated")
    build.add_argument("--min-hw-rev", type=int, default=0)
    build.add_argument("--security-counter", type=int, help="default: that of the last build")
    build.add_argument("--keys", type=Path, required=True, metavar="DIR")
    build.add_argument("--out", type=Path, required=True)
    build.add_argument("--expires-days", type=int, default=bundle.EXPIRES_DAYS, help="(%(default)s)")
    build.add_argument("--condition", action="append", default=[], choices=manifest.CONDITIONS, help="may be repeated")
    build.add_argument("--not-after", type=_day, default=0, metavar="DAY", help="then also outside of windows")
    build.add_argument("--contains", action="append", default=[], metavar="WORD", help="such as application")
    build.add_argument("--reason", choices=manifest.REASONS, default="", help="why it is needed")
    build.add_argument(
        "--approved", action="append", default=[], type=_digest, metavar="NAME=SHA256", help="such as kernel=…"
    )
    build.add_argument("--profile", action="append", default=[], type=_rate, metavar="NAME=N", help="expected rates")
    build.add_argument("--level", type=int, choices=range(1, 20), default=payload.LEVEL, metavar="1..19")
    show = _command(group, "show", "Say what a bundle holds; it may be signed by anybody.", _show)
    show.add_argument("file", type=Path)


def _day(text: str) -> int:
    """Seconds since 1970 at the end of a day, YYYY-MM-DD, in UTC. Raises ValueError."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) + 86400


def _digest(text: str) -> tuple[str, str]:
    name, _, digest = text.partition("=")
    return name, digest.lower()


def _rate(text: str) -> tuple[str, int]:
    """Raises ValueError."""
    name, _, number = text.partition("=")
    return name, int(number)


def _repo(group: Any) -> None:
    publish = _command(group, "publish", "Copy a bundle into a repository and point a channel to it.", _publish)
    publish.add_argument("--bundle", type=Path, required=True)
    publish.add_argument("--repo", type=Path, required=True, metavar="DIR")
    change = _command(group, "channel", "Sign a channel anew: further, stopped, or only fresh.", _change)
    change.add_argument("--repo", type=Path, required=True, metavar="DIR")
    for command in (publish, change):
        command.add_argument("--channel", default=repository.CHANNEL)
        command.add_argument("--keys", type=Path, required=command is change, metavar="DIR", help="sign it")
        command.add_argument("--percent", type=float, help="of the terminals that shall have it")
        command.add_argument("--forced", action=argparse.BooleanOptionalAction, help="outside of their windows too")
        command.add_argument("--poll-s", type=int, metavar="SECONDS", help="how often terminals ask (3600)")
        command.add_argument("--days", type=int, help=f"how long it counts ({repository.FRESH_DAYS})")
    stop = change.add_mutually_exclusive_group()
    stop.add_argument(
        "--stop", dest="stopped", action="store_true", default=None, help="no terminal begins or installs"
    )
    stop.add_argument("--go", dest="stopped", action="store_false", help="they go on")
    change.add_argument("--again", action="store_true", help="terminals that have failed try again")


def _support(group: Any) -> None:
    opening = _command(group, "open", "Decrypt a support bundle into a new directory.", _open_support)
    opening.add_argument("file", type=Path)
    opening.add_argument("--key", type=Path, required=True, metavar="vendor.pem")
    opening.add_argument("--out", type=Path, required=True, metavar="DIR")
    code = _command(group, "code", "Print the code of a support bundle, or compare it with the one heard.", _code)
    code.add_argument("file", type=Path)
    code.add_argument("--heard", default="", metavar="CODE", help="what was read out over the phone")


def _open_support(args: argparse.Namespace) -> dict[str, Any]:
    return support.open_bundle(args.file, args.key, args.out)


def _code(args: argparse.Namespace) -> dict[str, Any]:
    return support.code(args.file, args.heard)


def _init(args: argparse.Namespace) -> dict[str, Any]:
    return {"root": str(keys.init(args.dir, root_days=args.root_days))}


def _renew(args: argparse.Namespace) -> dict[str, Any]:
    root = keys.renew(args.dir, replace=args.replace, root_days=args.root_days)
    return {"root": str(root), "version": keys.newest_root(args.dir).version}


def _build(args: argparse.Namespace) -> dict[str, Any]:
    if args.parameters is not None and args.schema is not None:
        bundle.judge(args.parameters, args.schema)
    out = bundle.build(
        args.image,
        version=args.version,
        compatible=args.compatible,
        keys_dir=args.keys,
        out=args.out,
        min_hw_rev=args.min_hw_rev,
        security_counter=args.security_counter,
        expires_days=args.expires_days,
        parameters=args.parameters and (args.parameters, args.parameters_version or args.version),
        sources=args.sources,
        groups=args.groups,
        whole=args.whole,
        profile=dict(args.profile),
        terms={
            "conditions": args.condition,
            "not_after": args.not_after,
            "contents": args.contains,
            "reason": args.reason,
            "approved": dict(args.approved),
        },
        level=args.level,
        on_progress=_progress if sys.stderr.isatty() else None,
    )
    return {"bundle": str(out), **bundle.show(out)}


def _show(args: argparse.Namespace) -> dict[str, Any]:
    return bundle.show(args.file)


def _publish(args: argparse.Namespace) -> dict[str, Any]:
    return repository.publish(args.bundle, args.repo, channel=args.channel, keys_dir=args.keys, **_rollout(args))


def _change(args: argparse.Namespace) -> dict[str, Any]:
    changes = {**_rollout(args), "stopped": args.stopped, "again": args.again}
    return repository.change(args.repo, channel=args.channel, keys_dir=args.keys, **changes)


def _rollout(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("percent", "forced", "poll_s", "days")}


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done >> 20} of {total >> 20} MiB ({100 * done // total} %)", end=end, file=sys.stderr, flush=True)


def _lines(result: dict[str, Any]) -> Iterator[str]:
    """A result for people; where the bytes of payloads are is drawn as bars."""
    drawn = isinstance(result.get("payloads"), dict)
    payloads = result.pop("payloads") if drawn else {}
    yield _plain(result)
    for target, shares in payloads.items():
        total = sum(share["stored_bytes"] for share in shares.values())
        yield f"{target}: {total} bytes"
        for kind, share in shares.items():
            bar = "#" * round(BAR_WIDTH * share["stored_bytes"] / total)
            made = f"makes {share['image_bytes']} of the image" if share["image_bytes"] else ""
            yield f"  {kind:7}{share['stored_bytes']:>12} {bar:{BAR_WIDTH}} {made}".rstrip()


def _plain(value: Any, indent: str = "") -> str:
    """Nested values as indented lines, for people."""
    lines = []
    for name, part in value.items():
        if isinstance(part, list) and any(isinstance(one, dict) for one in part):
            lines += [f"{indent}{name}:", *(_plain(one, indent + "  ") for one in part)]
        elif isinstance(part, dict):
            lines += [f"{indent}{name}:", _plain(part, indent + "  ")] if part else []
        else:
            lines.append(f"{indent}{name}: {', '.join(map(str, part)) if isinstance(part, list) else part}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
