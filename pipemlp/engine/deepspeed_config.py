"""DeepSpeed's configuration, spelled here and nowhere else: DeepSpeed accepts misspelt keys silently."""

from pipemlp.planning.plan import Plan

NEVER = 10**12
"""Steps between two of DeepSpeed's own progress lines; ours replace them."""


def deepspeed_config(
    plan: Plan, *, clip_norm: float | None, precision: str, replicas_apart: bool = False
) -> dict[str, object]:
    """What `deepspeed.initialize` is given for a plan.

    bf16 accumulates and reduces gradients in float32: without `communication_data_type` DeepSpeed rounds
    the float32 sums to bf16 in the reduction, even with one replica. With `replicas_apart` a replica is alone.
    """
    num_replicas = 1 if replicas_apart else plan.num_replicas
    config: dict[str, object] = {
        "train_micro_batch_size_per_gpu": plan.micro_batch_rows,
        "gradient_accumulation_steps": plan.num_micro_batches,
        "train_batch_size": plan.micro_batch_rows * plan.num_micro_batches * num_replicas,
        "gradient_clipping": clip_norm or 0.0,
        "zero_optimization": {
            "stage": plan.zero_stage,
            "contiguous_gradients": False,  # else fp32 with ZeRO 1 takes 2 GB for a bucket at every reduction
        },
        "zero_allow_untested_optimizer": True,  # ours is torch's own: DeepSpeed's compile at first use
        "steps_per_print": NEVER,
    }
    if precision == "bf16":
        config |= {
            "bf16": {"enabled": True},
            # without buffer_dtype buffers stay in float32, and with them the inputs, which follow one (InputLayer)
            "data_types": {"grad_accum_dtype": "fp32", "buffer_dtype": "bf16"},
            "communication_data_type": "fp32",
        }
    return config
