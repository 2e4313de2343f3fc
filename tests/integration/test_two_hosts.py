"""Two hosts: network namespaces joined by one cable, in each a rank that torchrun has started."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest
from tiny_runs import dfz, metrics, tiny_spec, write_spec

pytestmark = pytest.mark.integration

IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
INTERFACE = "dfz0"


def ip(*words):
    """Runs iproute2."""
    subprocess.run([IP, *words], check=True, capture_output=True, text=True, timeout=30)


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


@pytest.fixture
def hosts():
    """Two namespaces; skips where they cannot be made."""
    if IP is None:
        pytest.skip("iproute2 is not installed")
    with two_hosts() if may_make_namespaces() else pytest.skip("namespaces need root") as names:
        yield names


def may_make_namespaces():
    """Whether two joined namespaces can be made here."""
    try:
        with two_hosts():
            return True
    except (subprocess.CalledProcessError, OSError):
        return False


def test_two_hosts_give_the_losses_of_one(tmp_path, hosts):
    """One rank on each of two hosts against two ranks on one: within 1e-5; they share nothing but the disk."""
    content = tiny_spec()
    pretrain = content["stages"]["pretrain"] | {"steps": 6, "preview": None}
    path = write_spec(tmp_path, {**content, "stages": {"pretrain": pretrain}})
    dfz("run", path, "--runs", tmp_path / "one", "--nproc", 2)
    launch = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1")
    launch += ("--master-addr=10.97.0.1", "--master-port=29511")
    command = ("-m", "diffusability.core.cli", "run", str(path), "--runs", str(tmp_path / "two"))
    processes = [
        subprocess.Popen(
            [IP, "netns", "exec", host, *launch, f"--node-rank={number}", *command],
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": INTERFACE},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, host in enumerate(hosts)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    one, two = ([line["loss"] for line in metrics(tmp_path / runs / "tiny", "pretrain")] for runs in ("one", "two"))
    assert len(two) == 6
    assert two == pytest.approx(one, rel=1e-5)
