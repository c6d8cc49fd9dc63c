"""Other people's checkpoints -> run directories: which layout it is, which task, which split. Layouts are the
files in layouts/."""

from .contents import show
from .importer import import_checkpoint
from .mapping import built_in
from .recorded import record
