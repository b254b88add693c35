"""What cdc-sync knows without looking at anything: values and decisions.

No I/O, no clock, no random number, no log: time and chance are arguments. So every promise can be tested by
enumeration, and an import contract keeps it so.

Instants are whole milliseconds since 1970-01-01T00:00:00Z (`int`), the precision of HelloWork's dates; lengths of time
are milliseconds too.
"""
