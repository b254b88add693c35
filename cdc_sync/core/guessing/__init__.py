"""Which table holds the applications, and which of its columns means what: guessed from names, types and keys.

schema    what is known of tables and columns: nothing of what stands in them
meanings  the words and types by which a column is taken for something
proposal  the tables and columns that come into question, and a watch put together, with reasons and doubts

A guess is for a person to read, so it never hides how sure it is. No row is looked at.
"""

from cdc_sync.core.guessing.proposal import Candidate, Guess, Proposal, propose, rank
from cdc_sync.core.guessing.schema import Column, Reference, Table

__all__ = ["Candidate", "Column", "Guess", "Proposal", "Reference", "Table", "propose", "rank"]
