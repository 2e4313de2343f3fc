"""Adversarial training written out in plain torch: two optimizers, gradients by autograd, no DeepSpeed."""

import math

import torch
from plain_training import task_of

from diffusability.core.engine.adversarial.discriminator_task import DiscriminatorTask
from diffusability.core.engine.batches import BatchPlan, batches
from diffusability.core.numerics.seeds import derived_seed


def adamw(parameters, spec):
    """AdamW as a spec has it."""
    return torch.optim.AdamW(parameters, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay)


def side_losses(kind, real, fake):
    """Loss of the discriminator on logits, and the function that gives the generator's."""
    if kind == "hinge":
        return (torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + fake, min=0).mean()) / 2
    return -(torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean()) / 2


def train_adversarially(stage, folder):
    """Each step's losses by name; the whole batch at once, as on one rank."""
    spec, adversarial = stage.spec, stage.spec.adversarial
    task, dataset = task_of(stage, folder)
    autoencoder = task.objective.autoencoder
    plan = BatchPlan(seed=stage.seed, batch_size=spec.batch_size, micro_batch_size=spec.batch_size, rank=0, num_ranks=1)
    loaded = [item.batch for item in batches(dataset, plan, 0, spec.steps)]
    torch.manual_seed(derived_seed(stage.seed, "discriminator"))
    judge = DiscriminatorTask(adversarial, tuple(loaded[0].data.shape[1:])).discriminator
    judge.adapt(loaded[0].data)
    optimizer, judge_optimizer = (
        adamw(task.parameters(), spec.optimizer),
        adamw(judge.parameters(), adversarial.optimizer),
    )
    last_weight = list(autoencoder.decoder_tail())[-1].weight
    history = []
    for step, batch in enumerate(loaded):
        output = task.objective(batch)
        images, reconstruction = output.images, output.reconstruction
        loss = sum(output.losses.values())
        for name, regularizer in task.regularizers.items():
            loss = loss + task.specs[name].weight * regularizer(output, task.objective)
        line = {"loss": loss.item()}
        optimizer.zero_grad()
        if step >= adversarial.start_step:
            fake = judge(reconstruction)
            generator = -fake.mean() if adversarial.loss == "hinge" else -torch.sigmoid(fake).log().mean()
            line["adversarial"] = generator.item()
            weight = adversarial.weight
            if adversarial.adaptive:
                pixels = sum(output.losses.values())
                (ours,) = torch.autograd.grad(pixels, last_weight, retain_graph=True)
                (theirs,) = torch.autograd.grad(generator, last_weight, retain_graph=True)
                line["adaptive_weight"] = (ours.norm() / (theirs.norm() + 1e-4)).item()
                weight = weight * min(line["adaptive_weight"], adversarial.largest_adaptive_weight)
            loss = loss + weight * generator
            if adversarial.r1_weight and (step - adversarial.start_step) % adversarial.r1_every == 0:
                inputs = images.clone().requires_grad_()
                (slope,) = torch.autograd.grad(judge(inputs).sum(), inputs, create_graph=True)
                penalty = slope.pow(2).sum(dim=(1, 2, 3)).mean() / 2
                line["r1"] = penalty.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), spec.gradient_clip or math.inf)
        judge_optimizer.zero_grad()
        if step >= adversarial.start_step:
            judged = side_losses(adversarial.loss, judge(images), judge(reconstruction.detach()))
            line["discriminator"] = judged.item()
            if "r1" in line:
                judged = judged + adversarial.r1_weight * adversarial.r1_every * penalty
            judged.backward()
            torch.nn.utils.clip_grad_norm_(judge.parameters(), adversarial.gradient_clip or math.inf)
            judge_optimizer.step()
        optimizer.step()
        history.append(line)
    return history
