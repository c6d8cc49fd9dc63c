"""Checkpoint files that other people wrote, read without executing anything from them. Knows nothing of
networks or runs."""

from .admitted import Record, name_of_unread
from .reader import read_foreign
from .refusals import KeyOfUnread, shown
