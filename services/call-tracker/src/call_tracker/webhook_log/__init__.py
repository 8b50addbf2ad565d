"""The webhook log: what providers sent, who may see it, what is wrong with it, and trying it again.

entries.py       the store of the entries
explanation.py   what an entry says, in words for people; pure
api.py           /api/v1/webhooks
"""

from call_tracker.webhook_log.entries import Entry, Taken, WebhookFilter, WebhookLog
from call_tracker.webhook_log.explanation import Explanation, explain

__all__ = ["Entry", "Explanation", "Taken", "WebhookFilter", "WebhookLog", "explain"]
