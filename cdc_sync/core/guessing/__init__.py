"""Which table holds the applications, and which of its columns means what: guessed from names, types and keys.

names     a name taken apart into words, in English and French
schema    what is known of tables and columns: nothing of what stands in them
meanings  the words and types by which a column is taken for something
columns   the columns that could be a thing, best first
tables    the tables that could hold applications, best first
proposal  everything put together, each guess with its reason and its doubt

A guess is for a person to read, so it never hides how sure it is. No row is looked at.
"""

from cdc_sync.core.guessing.proposal import Guess, Proposal, propose
from cdc_sync.core.guessing.schema import Column, Reference, Table
from cdc_sync.core.guessing.tables import Candidate, rank

__all__ = ["Candidate", "Column", "Guess", "Proposal", "Reference", "Table", "propose", "rank"]
