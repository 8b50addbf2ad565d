"""Dead letters: records that no consumer could handle, to be looked at and sent again.

letters.py   from a record of the topic to a letter; pure
box.py       the store, and sending again
api.py       /api/v1/dead-letters
"""

from call_tracker.dead_letters.box import DeadLetterBox, Heap, LetterFilter, StoredLetter
from call_tracker.dead_letters.letters import Letter, letter_of

__all__ = ["DeadLetterBox", "Heap", "Letter", "LetterFilter", "StoredLetter", "letter_of"]
