"""Two hosts: network namespaces joined by one cable, in each a rank that torchrun has started."""

import os
import subprocess
import sys

import pytest
from tiny_runs import dfz, metrics, tiny_spec, write_spec
from two_namespaces import INTERFACE, IP, may_make_namespaces, two_hosts

pytestmark = pytest.mark.integration


@pytest.fixture
def hosts():
    """Two namespaces; skips where they cannot be made."""
    if IP is None:
        pytest.skip("iproute2 is not installed")
    with two_hosts() if may_make_namespaces() else pytest.skip("namespaces need root") as names:
        yield names


def test_two_hosts_give_the_losses_of_one(tmp_path, hosts):
    """One rank on each of two hosts against two ranks on one, at ZeRO 3: within 1e-5; they share nothing but the disk.
    The two are processes that start anew, with hash seeds of their own."""
    content = tiny_spec()
    pretrain = content["stages"]["pretrain"] | {"steps": 6, "preview": None}
    engine = {**content["engine"], "zero_stage": 3}
    path = write_spec(tmp_path, {**content, "engine": engine, "stages": {"pretrain": pretrain}})
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
    single, double = (
        [line["loss"] for line in metrics(tmp_path / runs / "tiny", "pretrain")] for runs in ("one", "two")
    )
    assert len(double) == 6
    assert double == pytest.approx(single, rel=1e-5)
