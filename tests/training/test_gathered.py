"""A metric that keeps all rows gives one value, whichever replicas have rows."""

import torch
from torchmetrics.classification import BinaryAUROC
from training_bodies import gathered_auroc


def test_replicas_without_rows_do_not_matter(run_on_ranks):
    outputs, target = torch.tensor([0.1, 0.9, 0.4, 0.35, 0.8]), torch.tensor([0, 1, 0, 1, 1])
    whole = BinaryAUROC()
    whole.update(outputs, target)
    for counts in ((3, 2, 0), (0, 5, 0), (2, 2, 1)):
        assert run_on_ranks(3, gathered_auroc, outputs, target, counts) == [float(whole.compute())] * 3
