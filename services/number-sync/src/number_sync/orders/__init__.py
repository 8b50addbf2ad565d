"""What is ordered of number-sync on `telephony.call-commands.v1`, and how it is carried out at a provider.

`ledger` holds the orders, `dials` the claims that make dialling at most once; `worker` takes what is due and leases it;
one module per kind of order carries it out: a function `carry_out(context, command, data)`, entered in `worker.HANDLERS`
(and the kind in `command.KINDS`). It returns how it went, for the metrics; None when it will be tried again. What
cannot be carried out raises `GiveUpError`.
"""

from number_sync.orders.context import WorkerSettings
from number_sync.orders.worker import CommandWorker

__all__ = ["CommandWorker", "WorkerSettings"]
