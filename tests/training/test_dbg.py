import torch
from bf16_bodies import Case, by_pipeline, in_one_process
def test_x(run_on_ranks):
    c=Case(replicas=1)
    ours=run_on_ranks(2, by_pipeline, c)
    for t in (2,1):
        torch.set_num_threads(t)
        e=in_one_process(c)
        for step in range(3):
            for tr in ours:
                for n,v in tr.gradients[step].items():
                    n=n if n in e.gradients[step] else n
                    x=e.gradients[step][n]; print("D",t,step,n, float((v-x).abs().max()/x.abs().max()), float((tr.weights[step][n]-e.weights[step][n]).abs().max()))
    assert 0
