"""Checks of users, directories and the data partition."""

from __future__ import annotations

from posagent.doctor import mounts, slots
from posagent.doctor.findings import CannotTell, Verdict, all_of, fault, ok, warning
from posagent.doctor.site import SLOTS, Site

FETCH_USER, TEST_USER, SUPPORT_USER = "posagent-fetch", "posagent-test", "posagent-support"
OTHERS_WRITE = 0o022
LASTING = ("ext4", "f2fs", "ubifs", "xfs", "btrfs")
FLEETING = ("tmpfs", "ramfs")
UNFIT = ("vfat", "msdos", "exfat", "tmpfs", "ramfs", "overlay", "squashfs", "erofs")
"""Without owners, or gone after a power cut."""
BUNDLE_SHARE_MIN = 4
"""A compressed image rarely takes less than this part of it."""


def users(site: Site) -> Verdict:
    names = (site.config.terminal.agent_user, FETCH_USER, TEST_USER, SUPPORT_USER)
    ids = {name: site.board.uid_of(name) for name in names}
    faults = [f"there is no user {name}" for name, uid in ids.items() if uid is None]
    faults += [f"{name} is root" for name, uid in ids.items() if uid == 0]
    known = [uid for uid in ids.values() if uid]
    shared = ["users share an id"] if len(set(known)) < len(known) else []
    return all_of(faults + shared, ", ".join(names))


def groups(site: Site) -> Verdict:
    names = site.config.api.admin_groups
    missing = [name for name in names if site.board.gid_of(name) is None]
    return all_of((), ", ".join(names), [f"there is no group {name}" for name in missing])


def payment_groups(site: Site) -> Verdict:
    """Who may say that payments are under way, and nothing else."""
    config, board = site.config, site.board
    required = config.payment.application == "required"
    missing = [f"there is no group {name}" for name in config.api.payment_groups if board.gid_of(name) is None]
    theirs = {user for name in config.api.payment_groups for user in board.members(name)}
    admins = {user for name in config.api.admin_groups for user in board.members(name)}
    doubts = [f"{user} may also install and cancel updates" for user in sorted(theirs & admins)]
    if required and not theirs:
        names = ", ".join(config.api.payment_groups) or "api.payment_groups"
        doubts.append(f"nobody is in {names}: only root and administrators may say that payments are under way")
    return all_of((), ", ".join(sorted(theirs)) or "none is required", [*(missing if required else ()), *doubts])


def owners(site: Site) -> Verdict:
    """Each directory belongs to the process that writes it, and to nobody else."""
    terminal, agent = site.config.terminal, site.config.terminal.agent_user
    wanted = {
        terminal.state_dir: agent,
        terminal.run_dir: agent,
        terminal.installer_dir: "root",
        site.config.fetch.spool_dir: FETCH_USER,
    }
    faults = []
    for path, user in wanted.items():
        found, uid = site.board.about(path), site.board.uid_of(user)
        if found is None or found.kind != "directory":
            faults.append(f"{path} is no directory")
        elif uid is None:
            faults.append(f"{path} should be {user}'s, who does not exist")
        elif found.uid != uid:
            faults.append(f"{path} is {site.board.user_name(found.uid)}'s, should be {user}'s")
        elif found.mode & OTHERS_WRITE:
            faults.append(f"{path} has mode {found.mode:o}: others may write")
    return all_of(faults)


def above(site: Site) -> Verdict:
    """Nobody but root can exchange the installer's directory for another."""
    path = site.board.real(site.config.terminal.installer_dir)
    faults = []
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        found = site.board.about(path)
        if found is not None and (found.uid != 0 or (found.mode & OTHERS_WRITE and not found.mode & 0o1000)):
            faults.append(f"{path} is {site.board.user_name(found.uid)}'s with mode {found.mode:o}")
    return all_of(faults)


def _mounts(site: Site) -> dict[str, mounts.Mount]:
    """The mount under each directory that must survive updates and power cuts."""
    table, found = mounts.table(site), {}
    for path in (site.config.terminal.state_dir, site.config.terminal.installer_dir, site.config.fetch.spool_dir):
        mount = mounts.covering(table, site.board.real(path))
        if mount is None:
            raise CannotTell(f"{path}: no mount is known")
        found[path] = mount
    return found


def data_mounted(site: Site) -> Verdict:
    """The data partition is mounted, and is none of the slots."""
    numbers = {found.number: slot for slot in SLOTS if (found := site.board.about(site.device(slot))) is not None}
    faults, points = [], set()
    for path, mount in _mounts(site).items():
        points.add(mount.point)
        if mount.point == "/":
            faults.append(f"{path} lies on the root file system")
        elif mount.device in numbers:
            faults.append(f"{path} lies in slot {numbers[mount.device]}")
    return all_of(faults, ", ".join(sorted(points)))


def data_kind(site: Site) -> Verdict:
    """A file system that keeps owners and names across power cuts."""
    kinds = {path: mount.kind for path, mount in _mounts(site).items()}
    faults = [f"{path} is on {kind}" for path, kind in kinds.items() if kind in UNFIT]
    doubts = [f"{path} is on {kind}, which was not tried" for path, kind in kinds.items() if kind not in LASTING]
    return all_of(faults, ", ".join(sorted(set(kinds.values()))), doubts)


def data_options(site: Site) -> Verdict:
    faults, doubts = [], []
    found = {mount.point: mount for mount in _mounts(site).values()}
    for point, mount in found.items():
        if "ro" in mount.options:
            faults.append(f"{point} is mounted read-only")
        if mount.options & {"nobarrier", "barrier=0"}:
            faults.append(f"{point} is mounted without barriers: a flush does not reach the medium")
        if "data=writeback" in mount.options:
            doubts.append(f"{point} is mounted with data=writeback")
        if not mount.options & {"noatime", "relatime"}:
            doubts.append(f"{point} is mounted without noatime: reading writes")
    return all_of(faults, ", ".join(found), doubts)


def merchants(site: Site) -> Verdict:
    """The merchant's data has an owner other than root, lasts, and is found anew at each start; steps are root's."""
    data = site.config.data
    if not data.format:
        return ok("there is no [data] to keep")
    uid = site.board.uid_of(data.owner) if data.owner else 0
    faults = [] if uid else [f"there is no user {data.owner}" if uid is None else "data.owner is root"]
    table, directory = mounts.table(site), data.link.rpartition("/")[0]
    for path, fit, wrong in ((data.root_dir, LASTING, "is no place to keep it"), (directory, FLEETING, "lasts")):
        mount = mounts.covering(table, site.board.real(path))
        if mount is None or mount.kind not in fit or (mount.point == "/" and fit is LASTING):
            faults.append(f"{path}, on {mount.kind if mount else 'nothing'}, {wrong}")
    for name in site.files.names(data.steps_dir):
        found = site.board.about(f"{data.steps_dir}/{name}")
        if found is not None and (found.uid != 0 or found.mode & OTHERS_WRITE):
            faults.append(f"the step {name} is {site.board.user_name(found.uid)}'s with mode {found.mode:o}")
    for key, path in (
        ("parameters_schema", data.parameters_schema),
        ("reload_command", next(iter(data.reload_command), "")),
    ):
        if path and site.board.about(path) is None:
            faults.append(f"data.{key}: there is no {path}")
    return all_of(faults, f"format {data.format}, owner {data.owner}")


def room(site: Site) -> Verdict:
    """Free space for a bundle, beside what must stay free."""
    spool, keep = site.config.fetch.spool_dir, site.config.fetch.keep_free_bytes
    if site.board.about(spool) is None:
        raise CannotTell(f"{spool} does not exist")
    room = site.files.free_bytes(spool) - keep
    shown = f"a bundle may have {max(room, 0)} bytes"
    if room <= 0:
        return fault(f"{shown}; fetch.keep_free_bytes is {keep}")
    image = slots.image_size(site)
    if room < image // BUNDLE_SHARE_MIN:
        return warning(f"{shown}; the running image has {image}")
    return ok(shown)


CHECKS = {
    "users.exist": users,
    "users.groups": groups,
    "users.payment": payment_groups,
    "places.owners": owners,
    "places.above": above,
    "data.mounted": data_mounted,
    "data.kind": data_kind,
    "data.options": data_options,
    "data.room": room,
    "data.merchants": merchants,
}
