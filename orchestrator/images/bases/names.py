"""Which base stands for the image of a name: by repository, whatever the tag says. Versions are Debian's."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.images.reference import DOCKER, Named
from orchestrator.values import frozen


@frozen
class Base:
    """What to make: a kind, and what it includes."""

    kind: str
    include: tuple[str, ...] = ()


_LIBRARY: Mapping[str, Base] = {
    "alpine": Base("alpine"),
    "busybox": Base("busybox"),
    "debian": Base("debian"),
    "ubuntu": Base("debian"),
    **{name: Base("debian", (name,)) for name in ("buildpack-deps", "golang", "httpd", "maven", "memcached", "nginx")},
    **{name: Base("debian", (name,)) for name in ("node", "postgres", "python", "rabbitmq", "redis")},
    "mariadb": Base("debian", ("mariadb",)),
    "mysql": Base("debian", ("mariadb",)),
    "php": Base("debian", ("php",)),
    "eclipse-temurin": Base("debian", ("java",)),
    "openjdk": Base("debian", ("java",)),
    "amazoncorretto": Base("debian", ("java",)),
    "rust": Base("debian", ("buildpack-deps", "cargo", "rustc")),
    "gcc": Base("debian", ("buildpack-deps",)),
    "ruby": Base("debian", ("ruby-full", "bundler")),
    "perl": Base("debian", ("perl",)),
    "haproxy": Base("debian", ("haproxy",)),
    "registry": Base("debian", ("docker-registry",)),
    "wordpress": Base("debian", ("wordpress",)),
}
_OTHERS: Mapping[str, Base] = {
    "docker.io/prom/prometheus": Base("debian", ("prometheus",)),
    "docker.io/redislabs/redismod": Base("debian", ("redis",)),
    "docker.io/bitnami/redis": Base("debian", ("redis",)),
    "docker.io/bitnami/nginx": Base("debian", ("nginx",)),
}


def base_for(name: Named) -> Base | None:
    """The base that stands for an image of a registry, or None if there is none."""
    if name.registry == DOCKER and name.repository.startswith("library/"):
        short = name.repository.removeprefix("library/")
        if short == "php" and "apache" in name.tag:
            return Base("debian", ("php-apache",))
        if short in ("python", "node") and name.tag and not any(word in name.tag for word in ("slim", "alpine")):
            return Base("debian", (short, "buildpack-deps"))  # the tags without a word have compilers
        return _LIBRARY.get(short)
    return _OTHERS.get(name.name)
