"""Two hosts on one machine: network namespaces joined by one cable."""

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress

IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
INTERFACE = "dfz0"


def ip(*arguments):
    """Runs iproute2."""
    subprocess.run([IP, *arguments], check=True, capture_output=True, text=True, timeout=30)


@contextmanager
def two_hosts():
    """Names of two namespaces with addresses 10.97.0.1 and 10.97.0.2."""
    names = [f"dfz-{os.getpid()}-{number}" for number in (1, 2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", INTERFACE, "netns", names[0], "type", "veth", "peer", "name", INTERFACE, "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.97.0.{number}/24", "dev", INTERFACE)
            ip("-n", name, "link", "set", INTERFACE, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "delete", name)


def may_make_namespaces():
    """Whether two joined namespaces can be made here."""
    try:
        with two_hosts():
            return True
    except (subprocess.CalledProcessError, OSError):
        return False
