"""What maintainer scripts make of Debian's packages after they are unpacked, as data.

Each function looks at the tree and writes into it; none starts anything that lies in the tree.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.images.bases.accounts import Account, Accounts
from orchestrator.images.bases.alternatives import Alternatives, choices
from orchestrator.images.bases.apt import Source
from orchestrator.images.bases.dpkg import Database
from orchestrator.images.bases.tree import Tree

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Links into /usr (file-hierarchy(7)); packages of Debian 12 still have paths through them."""

_CHOSEN = "/etc/alternatives/"

HOST_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

_BUNDLE_VARIABLES = (
    *("CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
)

_DIRECTORIES: tuple[tuple[str, int, str], ...] = (
    ("/boot", 0o755, "root"),
    ("/dev", 0o755, "root"),
    ("/etc/opt", 0o755, "root"),
    ("/home", 0o755, "root"),
    ("/media", 0o755, "root"),
    ("/mnt", 0o755, "root"),
    ("/opt", 0o755, "root"),
    ("/proc", 0o755, "root"),
    ("/root", 0o700, "root"),
    ("/run", 0o755, "root"),
    ("/run/lock", 0o1777, "root"),
    ("/srv", 0o755, "root"),
    ("/sys", 0o755, "root"),
    ("/tmp", 0o1777, "root"),
    *((f"/usr/local/{name}", 0o755, "root") for name in ("bin", "etc", "games", "include", "lib", "sbin", "share", "src")),
    ("/var/backups", 0o755, "root"),
    ("/var/cache/apt/archives/partial", 0o700, "root"),
    ("/var/lib/apt/lists/partial", 0o700, "root"),
    ("/var/lib/dpkg/parts", 0o755, "root"),
    ("/var/lib/dpkg/updates", 0o755, "root"),
    ("/var/lib/misc", 0o755, "root"),
    ("/var/local", 0o2775, "root:staff"),
    ("/var/log", 0o755, "root"),
    ("/var/mail", 0o2775, "root:mail"),
    ("/var/opt", 0o755, "root"),
    ("/var/tmp", 0o1777, "root"),
)

_DEFAULTS = (
    ("/usr/share/base-files/dot.bashrc", "/root/.bashrc"),
    ("/usr/share/base-files/dot.profile", "/root/.profile"),
    ("/usr/share/base-files/motd", "/etc/motd"),
    ("/usr/share/base-files/profile", "/etc/profile"),
    ("/usr/share/libc-bin/nsswitch.conf", "/etc/nsswitch.conf"),
)
"""Copied by scripts, unless there is one."""

_PAM = {
    "account": "account required pam_unix.so\n",
    "auth": "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n",
    "password": "password [success=1 default=ignore] pam_unix.so obscure yescrypt\npassword requisite pam_deny.so\n"
    "password required pam_permit.so\n",
    "session": "session required pam_unix.so\n",
    "session-noninteractive": "session required pam_unix.so\n",
}
"""/etc/pam.d/common-NAME of plain passwd and shadow files, which pam-auth-update would make."""

LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/lintian/*", "/usr/share/locale/*")
KEPT = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")
"""As in slim images: dpkg in the container leaves the same out of what it unpacks later (dpkg.cfg(5), path-exclude)."""


def is_left_out(path: str) -> bool:
    """Of an absolute path of a package."""
    if not path.startswith("/usr/share/"):
        return False
    return _matches(path, LEFT_OUT) and not _matches(path, KEPT)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def make_accounts(tree: Tree, wanted: Sequence[Account]) -> Accounts:
    accounts = Accounts()
    read = tree.read
    masters = [read(f"/usr/share/base-passwd/{name}.master") or b"" for name in ("passwd", "group")]
    accounts.add_files(*masters)
    accounts.add_files(b"root:x:0:0:root:/root:/bin/sh\n", b"root:x:0:\nshadow:x:42:\nmail:x:8:\nstaff:x:50:\n")
    accounts.add_files(b"_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n", b"")
    for account in wanted:
        accounts.add(account)
    directory = "/usr/lib/sysusers.d"
    files = {name: read(f"{directory}/{name}") or b"" for name in tree.names(directory) if name.endswith(".conf")}
    accounts.add_sysusers({name: text.decode(errors="replace") for name, text in files.items()})
    return accounts


def settle(tree: Tree, accounts: Accounts) -> None:
    """Directories, links and files that every Debian system has."""
    for path, mode, owner in _DIRECTORIES:
        tree.directory(path, mode, accounts.id_of(owner))
    for path, target in (("/var/run", "/run"), ("/var/lock", "/run/lock"), ("/etc/mtab", "../proc/self/mounts")):
        tree.link(path, target)
    for path, mode, group, content in accounts.files():
        tree.file(path, content, mode, (0, accounts.groups[group][0]))
    for source, target in _DEFAULTS:
        default = tree.read(source)
        if default is not None and not tree.exists(target):
            tree.file(target, default)
    if tree.exists("/etc/pam.d"):
        for name, text in _PAM.items():
            tree.file(f"/etc/pam.d/common-{name}", text.encode())
    shells = [shell for shell in ("/bin/sh", "/bin/bash", "/bin/dash") if tree.exists(f"/usr{shell}")]
    tree.file("/etc/shells", "".join(f"{shell}\n" for shell in shells).encode())
    for path in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
        tree.file(path, b"")  # containers get theirs bound over these


def link_alternatives(tree: Tree, database: Database) -> None:
    """The links of all alternatives whose program is there, and their records. A link of the package's own stays; what a
    tree below has chosen may not."""
    alternatives = Alternatives()
    for control, _ in database.packages:
        for choice in choices(control.script):
            if tree.exists(choice.path):
                alternatives.add(choice)
    for link, target in alternatives.links():
        if is_left_out(link) or is_left_out(target):
            continue
        if link.startswith(_CHOSEN) or not tree.exists(link):
            tree.link(link, target)
    tree.directory("/var/lib/dpkg/alternatives")
    for name, content in alternatives.records():
        tree.file(f"/var/lib/dpkg/alternatives/{name}", content)


def trusted() -> bytes:
    """The certificates that this machine trusts, or b"". They are public, and readable by all."""
    try:
        with open(HOST_CERTIFICATES, "rb") as file:
            return file.read()
    except OSError:
        return b""


def bundle_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of the machine's variables with which programs that bring certificates of their own (Python's requests, Node)
    are told to believe the machine's: an image with its bundle needs them as much."""
    return {name: HOST_CERTIFICATES for name in _BUNDLE_VARIABLES if environ.get(name) == HOST_CERTIFICATES}


def trust(tree: Tree) -> None:
    """The certificates that this machine trusts, else those of the package ca-certificates: what is reached from here
    through a proxy of the house's own is reached from the image as well."""
    directory = "/usr/share/ca-certificates/mozilla"
    bundle = trusted() or b"".join(tree.read(f"{directory}/{name}") or b"" for name in tree.names(directory))
    tree.file(HOST_CERTIFICATES, bundle)


def configure_apt(tree: Tree, sources: Sequence[Source], acquire: Sequence[tuple[str, str]]) -> None:
    """The apt inside goes on where the packages came from, and behaves as in public images."""
    lines = [f"deb {source.uri} {source.suite} {source.component}\n" for source in sources]
    tree.file("/etc/apt/sources.list", "".join(lines).encode())
    settings = [
        'Acquire::Languages "none";',
        'Acquire::GzipIndexes "true";',
        'APT::AutoRemove::SuggestsImportant "false";',
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };',
        *(f'{name} "{value}";' for name, value in acquire),
    ]
    tree.file("/etc/apt/apt.conf.d/90container", "".join(f"{line}\n" for line in settings).encode())
    excluded = [*(f"path-exclude {pattern}" for pattern in LEFT_OUT), *(f"path-include {pattern}" for pattern in KEPT)]
    tree.file("/etc/dpkg/dpkg.cfg.d/slim", "".join(f"{line}\n" for line in excluded).encode())
    # Nothing starts services while packages are installed in a container (invoke-rc.d(8): 101 is "forbidden").
    tree.file("/usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n", 0o755)
