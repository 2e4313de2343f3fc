"""A spec of one step of everything, shaped like the quickstart, and commands in this process."""

from tiny_runs import tiny_spec
from typer.testing import CliRunner

from diffusability.core.cli.app import app


def shaped_like_the_quickstart():
    """One step of everything; the encode stage asks for more than the data has."""
    content = tiny_spec() | {"name": "study"}
    stages = content["stages"]
    stages["pretrain"] |= {"steps": 1, "preview": None, "ema": None}
    finetune = {
        "kind": "train",
        "objective": {"kind": "reconstruction", "autoencoder": {"kind": "stage", "stage": "pretrain"}},
        "regularizers": [{"kind": "scale-equivariance", "factors": [2]}],
        "batch_size": 2,
        "steps": 1,
        "preview": None,
    }
    of_finetune = {"kind": "stage", "stage": "finetune"}
    stages["measure"] |= {
        "autoencoder": of_finetune,
        "evaluators": [{"kind": "psnr", "num_samples": 40}, {"kind": "dct-spectrum", "num_samples": 8}],
    }
    stages["encode"] |= {"autoencoder": of_finetune, "num_samples": 5000, "batch_size": 512}
    stages["dit"] |= {"steps": 1, "preview": None, "evaluate": None, "ema": None}
    stages["generate"] |= {"sampler": {"kind": "euler", "steps": 1}}
    content["data"] |= {"size": 24, "validation_size": 16}
    content["stages"] = {"pretrain": stages.pop("pretrain"), "finetune": finetune, **stages}
    content["variants"] = {"control": {"stages.finetune.regularizers": []}, "se": {}}
    return content


def dfz_here(*arguments, code=0):
    """Runs the command in this process; errors are raised, as ``main`` catches them."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output
