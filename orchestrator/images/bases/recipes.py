"""What makes Debian's packages usable as the public image of a name: a table.

Each row is written from what the image's public documentation promises: its variables, ports, volumes, user and command.
Scripts that images start with are beside this module, in `entrypoints`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.images.bases.accounts import Account
from orchestrator.images.bases.tree import Tree
from orchestrator.values import field, frozen

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENTRYPOINTS = os.path.join(os.path.dirname(__file__), "entrypoints")
_START = "/usr/local/bin/docker-entrypoint.sh"


@frozen
class Recipe:
    """`packages`: Debian's. `accounts`: by the ids that own data in volumes. `directories`: path, mode, owner (a name, or
    name:group), made when all packages are there. `files`: those that begin with ``#!`` can be executed. `links`: path,
    target. `omitted`: names of files of packages that are left out. `settle`: what depends on the tree. `config`: of the
    image, but for Env, which is `environment`. `note`: how it differs from the image of that name."""

    name: str
    packages: tuple[str, ...]
    accounts: tuple[Account, ...] = ()
    directories: tuple[tuple[str, int, str], ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    omitted: tuple[str, ...] = ()
    settle: Callable[[Tree], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def _script(name: str) -> bytes:
    with open(os.path.join(_ENTRYPOINTS, name), "rb") as file:
        return file.read()


def _ports(*ports: str) -> dict[str, dict[str, str]]:
    return {port: {} for port in ports}


_NGINX_CONF = b"""\
user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
include /etc/nginx/modules-enabled/*.conf;

events {
    worker_connections 1024;
}

http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" '
                    '$status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';
    access_log /var/log/nginx/access.log main;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
_NGINX_DEFAULT = b"""\
server {
    listen 80;
    listen [::]:80;
    server_name localhost;
    root /usr/share/nginx/html;
    index index.html index.htm;
}
"""
_MARIADB_CONF = b"[mariadbd]\nbind-address = *\nskip-name-resolve\nhost-cache-size = 0\n"
_APACHE_START = b"""\
#!/bin/sh
# apache2 in the foreground: its environment, the directories that it needs, then itself.
set -e
. "${APACHE_ENVVARS:-/etc/apache2/envvars}"
mkdir -p "$APACHE_RUN_DIR" "$APACHE_LOCK_DIR" "$APACHE_LOG_DIR"
rm -f "$APACHE_PID_FILE"
exec apache2 -DFOREGROUND "$@"
"""
_APACHE_MODULES = (
    *("alias", "auth_basic", "authn_core", "authn_file", "authz_core", "authz_host", "authz_user", "autoindex", "deflate"),
    *("dir", "env", "filter", "mime", "mpm_prefork", "negotiation", "reqtimeout", "setenvif", "status"),
)
_PHP_START = b"""\
#!/bin/sh
# The start of the images "php": options go to php.
set -e
case "$1" in -*) set -- php "$@" ;; esac
exec "$@"
"""


def _enable_apache(tree: Tree) -> None:
    """The modules and the site that Debian's script enables, and those of the packages that brought some (php)."""
    available = set(tree.names("/etc/apache2/mods-available"))
    wanted = [*_APACHE_MODULES, *(name.removesuffix(".load") for name in available if name.startswith("php"))]
    for module in wanted:
        for suffix in (".load", ".conf"):
            if f"{module}{suffix}" in available:
                tree.link(f"/etc/apache2/mods-enabled/{module}{suffix}", f"../mods-available/{module}{suffix}")
    tree.link("/etc/apache2/sites-enabled/000-default.conf", "../sites-available/000-default.conf")
    for name in ("charset", "security"):
        tree.link(f"/etc/apache2/conf-enabled/{name}.conf", f"../conf-available/{name}.conf")


def _enable_php(tree: Tree) -> None:
    """Every extension that a package brought, for all ways of running PHP: /usr/share/phpVERSION-NAME/NAME/*.ini."""
    versions = tree.names("/etc/php")
    for version in versions:
        ways = [name for name in tree.names(f"/etc/php/{version}") if name != "mods-available"]
        for package in tree.names("/usr/share"):
            if not package.startswith(f"php{version}-"):
                continue
            directory = f"/usr/share/{package}/{package.removeprefix(f'php{version}-')}"
            for name in tree.names(directory):
                content = tree.read(f"{directory}/{name}") if name.endswith(".ini") else None
                if content is None:
                    continue
                tree.file(f"/etc/php/{version}/mods-available/{name}", content)
                first = next((line for line in content.decode(errors="replace").splitlines() if "priority=" in line), "")
                priority = first.partition("priority=")[2].strip() or "20"
                for way in ways:
                    link = f"/etc/php/{version}/{way}/conf.d/{priority}-{name}"
                    tree.link(link, f"/etc/php/{version}/mods-available/{name}")
        for way in ways:
            sample = tree.read(f"/usr/lib/php/{version}/php.ini-production" + (".cli" if way == "cli" else ""))
            if sample is not None:
                tree.file(f"/etc/php/{version}/{way}/php.ini", sample)


def _enable_php_in_apache(tree: Tree) -> None:
    _enable_php(tree)
    _enable_apache(tree)


def _link_postgres(tree: Tree) -> None:
    """Its programs lie in a directory by version; /usr/local/bin is in every PATH, also in that of a health check's."""
    for version in tree.names("/usr/lib/postgresql"):
        for name in tree.names(f"/usr/lib/postgresql/{version}/bin"):
            tree.link(f"/usr/local/bin/{name}", f"/usr/lib/postgresql/{version}/bin/{name}")


def _link_go(tree: Tree) -> None:
    for name in tree.names("/usr/lib"):
        if name.startswith("go-1."):
            tree.link("/usr/local/go", f"/usr/lib/{name}")


def _link_java(tree: Tree) -> None:
    for name in tree.names("/usr/lib/jvm"):
        if name.startswith("java-1.") and name.endswith(tuple("0123456789abcdefghijklmnopqrstuvwxyz")):
            tree.link("/opt/java", f"/usr/lib/jvm/{name}")
            for program in tree.names(f"/usr/lib/jvm/{name}/bin"):
                tree.link(f"/usr/local/bin/{program}", f"/usr/lib/jvm/{name}/bin/{program}")


_MYSQL = Account("mysql", 999, 999, "/var/lib/mysql", "/bin/false")
_APACHE_DIRECTORIES = (("/var/log/apache2", 0o755, "root"), ("/var/www/html", 0o1777, "www-data"))
_APACHE_LOGS = (
    ("/var/log/apache2/access.log", "/dev/stdout"),
    ("/var/log/apache2/other_vhosts_access.log", "/dev/stdout"),
    ("/var/log/apache2/error.log", "/dev/stderr"),
)
_PHP = ("php-cli", "php-curl", "php-mbstring", "php-mysql", "php-xml", "php-zip")

_ROWS = (
    Recipe(
        "redis",
        ("redis-server",),
        accounts=(Account("redis", 999, 999, "/data"),),
        directories=(("/data", 0o755, "redis"),),
        files=((_START, _script("redis.sh")),),
        config={
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["redis-server"],
            "WorkingDir": "/data",
            "Volumes": {"/data": {}},
            "ExposedPorts": _ports("6379/tcp"),
        },
        note="no modules of redismod or redis-stack",
    ),
    Recipe(
        "postgres",
        ("postgresql", "postgresql-contrib", "xz-utils", "zstd"),
        accounts=(Account("postgres", 999, 999, "/var/lib/postgresql", "/bin/bash"),),
        directories=(
            ("/var/lib/postgresql", 0o755, "postgres"),
            ("/var/lib/postgresql/data", 0o1777, "postgres"),
            ("/var/run/postgresql", 0o3777, "postgres"),
            ("/docker-entrypoint-initdb.d", 0o755, "root"),
        ),
        files=((_START, _script("postgres.sh")),),
        settle=_link_postgres,
        environment={"PGDATA": "/var/lib/postgresql/data", "LANG": "C.UTF-8"},
        config={
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["postgres"],
            "Volumes": {"/var/lib/postgresql/data": {}},
            "ExposedPorts": _ports("5432/tcp"),
            "StopSignal": "SIGINT",
        },
        note="Debian's version whatever the tag says",
    ),
    Recipe(
        "nginx",
        ("nginx-light", "gettext-base", "curl"),
        accounts=(Account("nginx", 101, 101),),
        directories=(
            ("/docker-entrypoint.d", 0o755, "root"),
            ("/etc/nginx/conf.d", 0o755, "root"),
            ("/var/log/nginx", 0o755, "root"),
            ("/var/cache/nginx", 0o755, "nginx"),
            ("/var/lib/nginx", 0o755, "nginx"),
        ),
        files=(
            ("/docker-entrypoint.sh", _script("nginx.sh")),
            ("/etc/nginx/nginx.conf", _NGINX_CONF),
            ("/etc/nginx/conf.d/default.conf", _NGINX_DEFAULT),
        ),
        links=(("/var/log/nginx/access.log", "/dev/stdout"), ("/var/log/nginx/error.log", "/dev/stderr")),
        config={
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["nginx", "-g", "daemon off;"],
            "ExposedPorts": _ports("80/tcp"),
            "StopSignal": "SIGQUIT",
        },
    ),
    Recipe(
        "mariadb",
        ("mariadb-server", "tzdata", "xz-utils", "zstd"),
        accounts=(_MYSQL,),
        directories=(
            ("/docker-entrypoint-initdb.d", 0o755, "root"),
            ("/run/mysqld", 0o1777, "mysql"),
            ("/var/lib/mysql", 0o1777, "mysql"),
            ("/var/log/mysql", 0o2750, "mysql:adm"),
        ),
        files=((_START, _script("mariadb.sh")), ("/etc/mysql/mariadb.conf.d/60-container.cnf", _MARIADB_CONF)),
        links=(("/etc/mysql/my.cnf", "mariadb.cnf"),),
        environment={"LANG": "C.UTF-8"},
        config={
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["mariadbd"],
            "Volumes": {"/var/lib/mysql": {}},
            "ExposedPorts": _ports("3306/tcp"),
        },
        note="as mysql it is MariaDB: no caching_sha2_password, no X protocol",
    ),
    Recipe(
        "python",
        ("python3", "python3-pip", "python3-venv", "netbase", "tzdata"),
        links=(
            ("/usr/local/bin/python", "/usr/bin/python3"),
            ("/usr/local/bin/python3", "/usr/bin/python3"),
            ("/usr/local/bin/pip", "/usr/bin/pip3"),
        ),
        omitted=("EXTERNALLY-MANAGED",),
        environment={"LANG": "C.UTF-8"},
        config={"Cmd": ["python3"]},
        note="Debian's version whatever the tag says; wheels of glibc, also where the tag says alpine",
    ),
    Recipe(
        "node",
        ("nodejs", "npm"),
        accounts=(Account("node", 1000, 1000, "/home/node", "/bin/bash"),),
        directories=(("/home/node", 0o755, "node"),),
        links=(("/usr/local/bin/node", "/usr/bin/node"), ("/usr/local/bin/npm", "/usr/bin/npm")),
        config={"Cmd": ["node"]},
        note="Debian's version whatever the tag says; npm of Debian, no yarn unless --include yarnpkg",
    ),
    Recipe(
        "golang",
        ("golang-go", "git", "gcc", "libc6-dev", "make"),
        directories=(("/go", 0o1777, "root"), ("/go/src", 0o1777, "root"), ("/go/bin", 0o1777, "root")),
        settle=_link_go,
        environment={"GOPATH": "/go", "GOTOOLCHAIN": "local", "PATH": f"/go/bin:/usr/local/go/bin:{PATH}"},
        config={"Cmd": ["bash"], "WorkingDir": "/go"},
        note="Debian's version (1.19 in Debian 12) whatever the tag says",
    ),
    Recipe(
        "memcached",
        ("memcached",),
        accounts=(Account("memcache", 11211, 11211),),
        config={"Cmd": ["memcached", "-l", "0.0.0.0"], "User": "memcache", "ExposedPorts": _ports("11211/tcp")},
    ),
    Recipe(
        "rabbitmq",
        ("rabbitmq-server",),
        accounts=(Account("rabbitmq", 999, 999, "/var/lib/rabbitmq", "/bin/bash"),),
        directories=(
            ("/var/lib/rabbitmq", 0o750, "rabbitmq"),
            ("/var/lib/rabbitmq/mnesia", 0o750, "rabbitmq"),
            ("/var/log/rabbitmq", 0o750, "rabbitmq"),
        ),
        # Its user "guest" is otherwise let in from its own machine alone, which a container is by itself.
        files=(("/etc/rabbitmq/conf.d/10-container.conf", b"loopback_users = none\n"),),
        environment={"RABBITMQ_LOGS": "-", "HOME": "/var/lib/rabbitmq", "LANG": "C.UTF-8"},
        config={
            "Cmd": ["/usr/lib/rabbitmq/bin/rabbitmq-server"],
            "User": "rabbitmq",
            "Volumes": {"/var/lib/rabbitmq": {}},
            "ExposedPorts": _ports("4369/tcp", "5671/tcp", "5672/tcp", "25672/tcp"),
        },
    ),
    Recipe(
        "httpd",
        ("apache2",),
        directories=_APACHE_DIRECTORIES,
        links=_APACHE_LOGS,
        files=(("/usr/local/bin/apache2-foreground", _APACHE_START),),
        settle=_enable_apache,
        config={"Cmd": ["apache2-foreground"], "ExposedPorts": _ports("80/tcp"), "StopSignal": "SIGWINCH"},
        note="Debian's layout: /var/www/html and /etc/apache2, not /usr/local/apache2",
    ),
    Recipe(
        "php-apache",
        ("apache2", "libapache2-mod-php", "php-gd", *_PHP),
        directories=_APACHE_DIRECTORIES,
        links=_APACHE_LOGS,
        files=(("/usr/local/bin/apache2-foreground", _APACHE_START), (_START, _PHP_START)),
        settle=_enable_php_in_apache,
        environment={"APACHE_ENVVARS": "/etc/apache2/envvars", "PHP_INI_DIR": "/etc/php"},
        config={
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["apache2-foreground"],
            "WorkingDir": "/var/www/html",
            "ExposedPorts": _ports("80/tcp"),
            "StopSignal": "SIGWINCH",
        },
        note="no docker-php-ext-install: extensions are Debian packages",
    ),
    Recipe(
        "wordpress",
        ("apache2", "libapache2-mod-php", "php-gd", *_PHP, "wordpress", "wordpress-theme-twentytwentythree"),
        directories=_APACHE_DIRECTORIES,
        links=_APACHE_LOGS,
        files=(("/usr/local/bin/apache2-foreground", _APACHE_START), (_START, _script("wordpress.sh"))),
        settle=_enable_php_in_apache,
        environment={"APACHE_ENVVARS": "/etc/apache2/envvars", "PHP_INI_DIR": "/etc/php"},
        config={
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["apache2-foreground"],
            "WorkingDir": "/var/www/html",
            "Volumes": {"/var/www/html": {}},
            "ExposedPorts": _ports("80/tcp"),
            "StopSignal": "SIGWINCH",
        },
        note="Debian's version whatever the tag says; always with Apache",
    ),
    Recipe(
        "php",
        _PHP,
        files=((_START, _PHP_START),),
        settle=_enable_php,
        config={"Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["php", "-a"]},
        note="no docker-php-ext-install: extensions are Debian packages",
    ),
    Recipe(
        "java",
        ("openjdk-17-jdk-headless",),
        settle=_link_java,
        environment={"JAVA_HOME": "/opt/java", "LANG": "C.UTF-8"},
        config={"Cmd": ["jshell"]},
        note="no trust store of Java's own: TLS from Java needs -Djavax.net.ssl.trustStore",
    ),
    Recipe(
        "maven",
        ("maven", "openjdk-17-jdk-headless"),
        # The package's script names them by a variable, which `alternatives` leaves out.
        links=tuple((f"/usr/bin/{name}", f"/usr/share/maven/bin/{name}") for name in ("mvn", "mvnDebug")),
        settle=_link_java,
        environment={"JAVA_HOME": "/opt/java", "MAVEN_HOME": "/usr/share/maven", "LANG": "C.UTF-8"},
        config={"Cmd": ["mvn"]},
        note="no trust store of Java's own: TLS from Java needs -Djavax.net.ssl.trustStore",
    ),
    Recipe(
        "prometheus",
        ("prometheus",),
        accounts=(Account("nobody", 65534, 65534, "/home"),),
        directories=(("/prometheus", 0o777, "nobody"),),
        links=(("/var/lib/prometheus/metrics2", "/prometheus"),),  # where Debian's keeps it if nothing is said
        config={
            "Entrypoint": ["/usr/bin/prometheus"],
            "Cmd": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
            "User": "nobody",
            "WorkingDir": "/prometheus",
            "Volumes": {"/prometheus": {}},
            "ExposedPorts": _ports("9090/tcp"),
        },
    ),
    Recipe("buildpack-deps", ("build-essential", "curl", "git", "pkg-config", "libssl-dev", "libffi-dev", "zlib1g-dev")),
)

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _ROWS}
OTHER_NAMES: Mapping[str, str] = {
    "postgresql": "postgres",
    "mysql": "mariadb",
    "nodejs": "node",
    "go": "golang",
    "apache": "httpd",
    "openjdk": "java",
    "rabbitmq-server": "rabbitmq",
    "redis-server": "redis",
    "mariadb-server": "mariadb",
}
"""What `--include` may call them besides."""


LIKE_ALPINE = (
    ("/usr/sbin/apk", _script("apk.sh")),
    ("/usr/local/sbin/adduser", _script("alpine-users.sh")),
    ("/usr/local/sbin/addgroup", _script("alpine-users.sh")),
)
"""Programs of images that stand for ``NAME:alpine``."""


def recipe_of(name: str) -> Recipe | None:
    return RECIPES.get(OTHER_NAMES.get(name, name))
