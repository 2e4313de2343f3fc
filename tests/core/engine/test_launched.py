import pytest

from diffusability.core.engine import distributed
from diffusability.core.engine.launched import first_host, launched_rank
from diffusability.core.errors import SpecError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "2950"}
SLURM = {
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_NTASKS": "32",
    "SLURM_NNODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.9",
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_ID": "0",
}


def everywhere(host):
    return True


def nowhere(host):
    return False


@pytest.mark.parametrize(
    ("nodelist", "first"),
    [
        ("gpu007", "gpu007"),
        ("gpu[003-007,9],login", "gpu003"),
        ("gpu[12,14-20]", "gpu12"),
        ("a,b[1-2]", "a"),
        ("rack[1-2]node[3-4]", "rack1node3"),
        ("node-[01-16].cluster.example", "node-01.cluster.example"),
    ],
)
def test_the_first_host_of_a_node_list(nodelist, first):
    """Against what ``scontrol show hostnames`` prints first."""
    assert first_host(nodelist) == first


def test_torchrun_is_read():
    """Every variable that torchrun and deepspeed set."""
    rank = launched_rank(TORCHRUN)
    assert (rank.rank, rank.size, rank.local_rank, rank.address, rank.port) == (3, 4, 1, "10.0.0.1", 2950)


def test_srun_is_read():
    """The step's own number of tasks, its first host, and one port for all ranks of a job."""
    rank = launched_rank(SLURM, everywhere)
    assert (rank.rank, rank.size, rank.local_rank, rank.address) == (9, 16, 1, "gpu07")
    other = launched_rank({**SLURM, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, everywhere)
    assert (other.address, other.port) == (rank.address, rank.port)
    assert 10_000 <= rank.port < 30_000
    assert launched_rank({**SLURM, "SLURM_JOB_ID": "4243"}, everywhere).port != rank.port


def test_srun_on_hosts_without_names_uses_the_address_of_srun():
    """When the first host's name is unknown; what the user sets wins over both."""
    assert launched_rank(SLURM, nowhere).address == "10.0.0.9"
    assert launched_rank({**SLURM, "MASTER_ADDR": "10.1.1.1"}, everywhere).address == "10.1.1.1"
    assert launched_rank({**SLURM, "SLURM_NNODES": "1"}, everywhere).address == "127.0.0.1"


@pytest.mark.parametrize("environment", [{}, {"SLURM_PROCID": "0"}, {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}])
def test_a_process_alone_is_not_launched(environment):
    """No launcher, or a SLURM job of one task."""
    assert launched_rank(environment) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0"}, "RANK='0' but no WORLD_SIZE"),
        ({"WORLD_SIZE": "2"}, "no RANK"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "no LOCAL_RANK, MASTER_ADDR, MASTER_PORT; .* To run alone, unset RANK"),
        ({**TORCHRUN, "MASTER_PORT": None}, "RANK='3' and WORLD_SIZE='4' but no MASTER_PORT;"),
        ({**TORCHRUN, "RANK": "x"}, "RANK='x'; expected a whole number"),
        ({**TORCHRUN, "RANK": "4"}, "rank 4 of 4; expected a rank from 0 to 3"),
    ],
)
def test_contradictions_are_named(environment, message):
    """A sentence with the variable and its value."""
    with pytest.raises(SpecError, match=message):
        launched_rank({name: value for name, value in environment.items() if value is not None})


def test_one_rank_needs_no_meeting_place():
    """RANK=0 of WORLD_SIZE=1, as a scheduler may leave it."""
    assert launched_rank({"RANK": "0", "WORLD_SIZE": "1"}).size == 1


def test_waiting_for_the_others_is_said(capfd, monkeypatch):
    """Rank 0 of 2 alone: what it waits for and where, which variables say so, and nothing once they have come."""
    monkeypatch.setattr(distributed, "QUIET_S", 0.01)
    launched = launched_rank({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"})
    distributed._say_later(launched, "10.0.0.1:2950").join()
    said = capfd.readouterr().err
    assert "rank 0 of 4 waits for the others at 10.0.0.1:2950, up to 10 minutes" in said
    assert "unset RANK and WORLD_SIZE" in said
    monkeypatch.setattr(distributed, "QUIET_S", 0.2)
    timer = distributed._say_later(launched, "10.0.0.1:2950")
    timer.cancel()
    timer.join()
    assert capfd.readouterr().err == ""
