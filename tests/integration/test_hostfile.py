"""DeepSpeed's launcher over ssh: two hosts that are network namespaces, each with an ssh server of its own."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_runs import dfz, metrics, tiny_spec, write_spec
from two_namespaces import INTERFACE, IP, may_make_namespaces, two_hosts

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
TOOLS = {name: shutil.which(name, path=SEARCHED) for name in ("sshd", "ssh", "ssh-keygen", "pdsh")}

SERVER = """
ListenAddress {address}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/{address}.pid
PermitRootLogin yes
StrictModes no
UsePAM no
"""


@contextmanager
def ssh_servers(folder, hosts):
    """An ssh server on each host, which lets the key ``user`` in."""
    for key in ("host", "user"):
        subprocess.run([TOOLS["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    servers = []
    try:
        for number, host in enumerate(hosts, 1):
            settings = folder / f"sshd{number}"
            settings.write_text(SERVER.format(address=f"10.97.0.{number}", folder=folder))
            servers.append(subprocess.Popen([IP, "netns", "exec", host, TOOLS["sshd"], "-D", "-f", settings]))
        time.sleep(1)
        assert [server.poll() for server in servers] == [None, None]
        yield
    finally:
        for server in servers:
            server.kill()
            server.wait()


def test_the_hostfile_of_deepspeed_gives_the_losses_of_one_host(tmp_path):
    """``deepspeed --hostfile`` from the first of two hosts, against two ranks on one: within 1e-5."""
    missing = [name for name, path in TOOLS.items() if path is None]
    if missing or IP is None:
        pytest.skip(f"not installed: {', '.join(missing) or 'iproute2'}")
    if not may_make_namespaces():
        pytest.skip("namespaces need root")
    content = tiny_spec()
    pretrain = content["stages"]["pretrain"] | {"steps": 4, "preview": None}
    path = write_spec(tmp_path, {**content, "stages": {"pretrain": pretrain}})
    (tmp_path / "hosts").write_text("10.97.0.1 slots=1\n10.97.0.2 slots=1\n")
    dfz("run", path, "--runs", tmp_path / "one", "--nproc", 2)
    options = f"-i {tmp_path / 'user'} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    launch = [sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", tmp_path / "hosts", "--no_ssh_check"]
    launch += ["--master_addr", "10.97.0.1", "--no_local_rank", "--module", "diffusability.core.cli"]
    (tmp_path / ".deepspeed_env").write_text(f"GLOO_SOCKET_IFNAME={INTERFACE}\nOMP_NUM_THREADS=1\n")
    with two_hosts() as hosts, ssh_servers(tmp_path, hosts):
        done = subprocess.run(
            [IP, "netns", "exec", hosts[0], *launch, "run", path, "--runs", tmp_path / "two"],
            cwd=tmp_path,
            env={**os.environ, "PDSH_SSH_ARGS_APPEND": options, "DS_ACCELERATOR": "cpu"},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    single, double = (
        [line["loss"] for line in metrics(tmp_path / runs / "tiny", "pretrain")] for runs in ("one", "two")
    )
    assert len(double) == 4
    assert double == pytest.approx(single, rel=1e-5)
