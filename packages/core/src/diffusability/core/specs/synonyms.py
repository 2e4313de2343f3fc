"""Names that other frameworks use for the keys of a spec, for errors that suggest ours."""

from collections.abc import Mapping

#: Their names, in lower case with ``_`` for ``-``: what to use here.
SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "gradient_accumulation",
            "gradient_accumulation_steps",
            "grad_accum",
            "grad_accumulation",
            "accumulate_grad_batches",
            "accumulation_steps",
            "per_device_train_batch_size",
            "train_micro_batch_size_per_gpu",
            "batch_size_per_gpu",
        ),
        "engine.micro_batch_size: 'batch_size' is the whole batch, and the engine accumulates micro batches to it",
    ),
    **dict.fromkeys(("train_batch_size", "global_batch_size", "total_batch_size"), "batch_size"),
    **dict.fromkeys(("learning_rate", "lr"), "optimizer.lr (a number) and learning_rate (its schedule)"),
    **dict.fromkeys(("max_steps", "num_steps", "max_train_steps", "total_steps", "iterations", "train_steps"), "steps"),
    **dict.fromkeys(
        ("epochs", "num_epochs", "max_epochs", "num_train_epochs"),
        "steps: optimizer steps; an epoch is examples / batch_size of them",
    ),
    **dict.fromkeys(
        ("warmup", "num_warmup_steps", "lr_warmup_steps", "warmup_iters"), "learning_rate.warmup_steps of the stage"
    ),
    **dict.fromkeys(("lr_scheduler", "scheduler", "lr_scheduler_type", "lr_schedule"), "learning_rate.decay"),
    **dict.fromkeys(
        ("max_grad_norm", "grad_clip", "clip_grad_norm", "gradient_clip_val", "gradient_clipping"), "gradient_clip"
    ),
    **dict.fromkeys(("mixed_precision", "fp16", "bf16", "dtype", "amp"), "engine.precision"),
    **dict.fromkeys(
        ("gradient_checkpointing", "grad_checkpointing", "use_checkpoint"), "engine.activation_checkpointing"
    ),
    **dict.fromkeys(("zero", "zero_optimization", "sharding"), "engine.zero_stage"),
    **dict.fromkeys(("torch_compile", "compile_model"), "engine.compile"),
    **dict.fromkeys(("ema_decay", "ema_rate", "use_ema", "ema_halflife"), "ema.half_life_steps"),
    **dict.fromkeys(("num_workers", "dataloader_num_workers", "workers"), "data.num_workers"),
    **dict.fromkeys(("image_size", "img_size", "resolution"), "data.resolution"),
    **dict.fromkeys(("save_steps", "save_every", "checkpointing_steps", "save_every_n_steps"), "checkpoint.every"),
    **dict.fromkeys(("logging_steps", "log_every_n_steps", "log_interval"), "log_every"),
    **dict.fromkeys(("cfg_scale", "cfg", "guidance", "guidance_weight"), "guidance_scale of a sampler"),
    **dict.fromkeys(("num_inference_steps", "sampling_steps"), "steps of a sampler"),
    **dict.fromkeys(("vae", "ae", "tokenizer"), "autoencoder"),
    **dict.fromkeys(("model", "dit", "unet", "network"), "denoiser of an objective"),
    **dict.fromkeys(("loss", "criterion"), "objective"),
    **dict.fromkeys(("dataset", "train_dataset", "data_path", "data_dir"), "data: {kind: image-folder, path: ...}"),
    **dict.fromkeys(("metrics", "metric"), "evaluators"),
    **dict.fromkeys(("logger", "report_to", "loggers"), "trackers"),
    **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("weight_decay", "betas", "eps", "adam_beta1"), "optimizer"),
    **dict.fromkeys(("output_dir", "save_dir", "outdir"), "--runs DIR of dfz run"),
}


def synonym(key: object) -> str:
    """Words that point from another framework's name to ours; empty where there are none."""
    name = str(key).lower().replace("-", "_")
    return f"here it is {SYNONYMS[name]}; " if name in SYNONYMS else ""
