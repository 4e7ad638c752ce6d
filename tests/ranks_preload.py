"""Imported once by the fork server, so that every rank starts with torch and DeepSpeed loaded."""

import os

os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed  # noqa: E402, F401

# what DeepSpeed imports only when it builds an engine: seconds for each of eight ranks otherwise
import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: E402, F401
import torch  # noqa: E402, F401
import torch._dynamo  # noqa: E402, F401

import pipemlp.engine.pipeline  # noqa: E402, F401
