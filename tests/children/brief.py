"""Under torchrun: end right after the last message, which gloo's threads have yet to finish."""
import sys

import torch

from machinery.devices import choose_device

choose_device()
held = torch.distributed.group.WORLD     # as DistributedDataParallel holds it
sys.setswitchinterval(10)                # gloo's threads wait until Python has nothing else to do
for _ in range(20):
    torch.distributed.all_reduce(torch.ones(5))
