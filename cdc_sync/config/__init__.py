"""The configuration: YAML in, immutable values out, and everything that is wrong with it said at once.

document      YAML as a tree that knows its lines
substitution  ${NAME} and ${file:PATH}
models        what the keys are, and what each must be
conninfo      whether a connection string can lead anywhere
wording       the validator's errors in our words
disclosure    what of the file may be shown in them
exposure      what other users of this host may do with it
"""

from cdc_sync.config.addresses import HostPort
from cdc_sync.config.columns import Column, ExtraField, PlainColumn, SqlColumn
from cdc_sync.config.example import example
from cdc_sync.config.exposure import exposures
from cdc_sync.config.loading import load, load_without_secrets, parse
from cdc_sync.config.models import Admin, Config, Database, HelloWork, Log, Retry, State
from cdc_sync.config.problems import ConfigurationError, Problem
from cdc_sync.config.quantities import Duration, Size, format_duration, format_size, parse_duration, parse_size
from cdc_sync.config.schema import json_schema
from cdc_sync.config.suspicions import warnings
from cdc_sync.config.watch import Capture, Columns, Fuse, Related, Status, Watch

__all__ = [
    "Admin",
    "Capture",
    "Column",
    "Columns",
    "Config",
    "ConfigurationError",
    "Database",
    "Duration",
    "ExtraField",
    "Fuse",
    "HelloWork",
    "HostPort",
    "Log",
    "PlainColumn",
    "Problem",
    "Related",
    "Retry",
    "Size",
    "SqlColumn",
    "State",
    "Status",
    "Watch",
    "example",
    "exposures",
    "format_duration",
    "format_size",
    "json_schema",
    "load",
    "load_without_secrets",
    "parse",
    "parse_duration",
    "parse_size",
    "warnings",
]
