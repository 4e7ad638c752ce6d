"""Imported once by the fork server, so that every rank starts with torch and DeepSpeed loaded."""

import os

os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed  # noqa: E402, F401
import torch  # noqa: E402, F401

import pipemlp.engine.pipeline  # noqa: E402, F401
