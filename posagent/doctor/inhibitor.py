"""Checks that the agent can hold off a shutdown in its critical section: logind is there and polkit lets it."""

from __future__ import annotations

from posagent.doctor.findings import CannotTell, Verdict, fault, ok
from posagent.doctor.site import Site
from posagent.platform.commands import CommandFailed

ACTION = "org.freedesktop.login1.inhibit-block-shutdown"
COMMAND = "/usr/bin/systemd-inhibit"
RULES = ("/etc/polkit-1/rules.d", "/usr/local/share/polkit-1/rules.d", "/usr/share/polkit-1/rules.d")


def logind(site: Site) -> Verdict:
    """What the agent itself looks for (posagent/platform/host.py)."""
    site.need_systemd()
    if site.board.about(site.board.system("/run/systemd/seats")) is None:
        return fault("/run/systemd/seats does not exist: systemd-logind does not run")
    if site.board.about(site.board.system(COMMAND)) is None:
        return fault(f"{COMMAND} does not exist")
    return ok()


def works(site: Site) -> Verdict:
    """Tried as the agent's user, as the agent does it."""
    site.need_systemd()
    user = site.config.terminal.agent_user
    if site.board.uid_of(user) is None:
        raise CannotTell(f"there is no user {user}")
    if not site.board.am_root():
        raise CannotTell("only root can try it as another user")
    take = [COMMAND, "--what=shutdown", "--who=posagent", "--why=doctor", "--mode=block", "/bin/true"]
    try:
        site.board.run(["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *take])
    except CommandFailed as error:
        return fault(f"{error}; {_rule(site)}")
    return ok(f"as user {user}")


def _rule(site: Site) -> str:
    for directory in RULES:
        for name in site.board.names(site.board.system(directory)):
            path = f"{directory}/{name}"
            if ACTION in (site.board.text(site.board.system(path)) or ""):
                return f"there is a rule in {path}"
    return f"no rule in {' or '.join(RULES)} names {ACTION}"


CHECKS = {"inhibitor.logind": logind, "inhibitor.works": works}
