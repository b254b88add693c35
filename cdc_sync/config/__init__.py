"""The configuration: YAML in, immutable values out, and everything that is wrong with it said at once.

document      YAML as plain values whose places are known; ${NAME} and ${file:PATH}
values        how single values are read
models        what the keys are, what each must be, and what the core makes of them
tenants       from a template to a watch for each tenant
dsn           what is wrong with a connection string, and what may be shown of it
loading       from a file to the values, the validator's errors in our words, and what of the file may be shown in them
suspicions    what is allowed and hardly ever meant, and what other users of this host may do with secrets
schema        the JSON Schema and the annotated example
"""

from cdc_sync.config.loading import load, parse
from cdc_sync.config.models import Admin, Capture, Column, Config, Database, Log, PlainColumn, SqlColumn, Watch
from cdc_sync.config.problems import ConfigurationError, Problem
from cdc_sync.config.schema import example, json_schema
from cdc_sync.config.suspicions import exposures, warnings
from cdc_sync.config.values import HostPort, format_duration, parse_duration
