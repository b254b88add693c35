"""What cdc-sync knows without looking at anything: values and decisions.

Nothing here does I/O, reads a clock, draws a random number or writes a log line: the time and the random number are
arguments. That is what lets every promise be tested by enumeration, and an import contract keeps it so.

Instants are whole milliseconds since 1970-01-01T00:00:00Z (`int`), the precision that HelloWork's dates have; lengths
of time are milliseconds too.
"""
