"""The configuration: YAML in, immutable values out, and all its errors reported at once.

values        the base of every section, and how single values are read; ${NAME} and ${file:PATH}
sections, watch
              the sections: their keys and rules
models        the whole configuration, and what the core makes of it
tenants       from a template to a watch for each tenant
dsn           errors of a connection string, and what of it may be shown; the settings of every session
loading       from a file to the values or all its errors; what is suspicious in it, or open to others on this host
yaml_text     YAML that we write
meanings      what a name suggests
"""

from .loading import ConfigurationError, Problem, exposures, load, parse, undecided, warnings
from .models import Config
from .sections import Admin, Database, Log, Notify
from .values import HostPort
from .watch import Capture, Column, PlainColumn, SqlColumn, Watch
