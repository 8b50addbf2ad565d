"""How often Twilio asks a URL of ours again.

https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
"""

from typing import Final

RETRIES: Final = "ct=2000&rt=2500&rc=2&rp=5xx,ct,rt"
"""What Twilio does when our answer does not come, written into the URL's fragment, which it neither sends nor
signs: two more attempts after a failed connection (2 s), a missing answer (2.5 s) or a 5xx, 13.5 s at most of
the 15 s it gives one webhook altogether. Without it, only a failed connection is tried once more.

Not after a 4xx: what was refused once is refused again, and Twilio does not wait before it comes back, so that
a limit that says 429 would be asked three times by each call it cannot serve."""


def with_retries(url: str) -> str:
    """`url` (without fragment), to be asked again. For webhooks only: Twilio names no such thing for the URL of a
    `<Stream>`, the callback about one, or the music of a conference."""
    return f"{url}#{RETRIES}"
