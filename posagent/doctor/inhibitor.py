"""The check that the agent can hold off a shutdown in its critical section: logind is there and polkit lets it."""

from __future__ import annotations

from posagent.doctor.findings import CannotTell, Verdict, fault, ok
from posagent.doctor.site import Site
from posagent.platform.commands import CommandFailed

COMMAND = "/usr/bin/systemd-inhibit"


def works(site: Site) -> Verdict:
    """Tried as the agent's user, as the agent does it (posagent/platform/host.py)."""
    site.need_systemd()
    user = site.config.terminal.agent_user
    for path in ("/run/systemd/seats", COMMAND):
        if site.board.about(site.board.system(path)) is None:
            return fault(f"{path} does not exist")
    if site.board.uid_of(user) is None or not site.board.am_root():
        raise CannotTell(f"only root can try it as user {user}, who must exist")
    take = [COMMAND, "--what=shutdown", "--who=posagent", "--why=doctor", "--mode=block", "/bin/true"]
    try:
        site.board.run(["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *take])
    except CommandFailed as error:
        return fault(str(error))
    return ok(f"as user {user}")


CHECKS = {"inhibitor.works": works}
