"""The configuration: YAML in, immutable values out, and all its errors reported at once.

document      YAML as plain values with known places; ${NAME} and ${file:PATH}
values        how single values are read
columns, watch, hellowork, daemon
              the sections: their keys and rules
models        the whole configuration, and what the core makes of it
tenants       from a template to a watch for each tenant
dsn           errors of a connection string, and what of it may be shown
loading       from a file to the values or all its errors; what of the file errors may show
config_warnings
              valid and hardly ever meant, and secrets that other users of this host can read
json_schema   the JSON Schema and the annotated example
"""

from cdc_sync.config.columns import Column, PlainColumn, SqlColumn
from cdc_sync.config.config_warnings import exposures, warnings
from cdc_sync.config.daemon import Admin, Database, Log
from cdc_sync.config.json_schema import example, json_schema
from cdc_sync.config.loading import load, parse
from cdc_sync.config.models import Config
from cdc_sync.config.problems import ConfigurationError, Problem
from cdc_sync.config.values import HostPort, format_duration, parse_duration
from cdc_sync.config.watch import Capture, Watch
