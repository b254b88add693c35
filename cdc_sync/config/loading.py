"""From a file to a configuration, or to everything that is wrong with it at once."""

from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath

from pydantic import ValidationError

from cdc_sync.config import conninfo, outline, wording
from cdc_sync.config.disclosure import disclose
from cdc_sync.config.document import LARGEST, Entries, Items, Node, NotYamlError, Path, Place, Scalar, Trouble, read
from cdc_sync.config.mistakes import Mistake
from cdc_sync.config.models import Config
from cdc_sync.config.problems import ConfigurationError, Problem
from cdc_sync.config.substitution import UNRESOLVED, substitute

_WHERE_TO_BEGIN = "`cdc-sync config example` prints an annotated configuration to begin with"


def load(path: FilePath, environ: Mapping[str, str]) -> Config:
    """Read the configuration from a file.

    Args:
        path: the file; a relative `${file:PATH}` in it is relative to its folder.
        environ: where `${NAME}` is looked up.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    text = _text_of(path)
    # Raised out here, so that no exception with the file's content in it hangs on to this one.
    if isinstance(text, Trouble):
        raise ConfigurationError(str(path), _disclosed([text], None))
    return parse(text, name=str(path), environ=environ, folder=path.parent)


def load_without_secrets(path: FilePath, environ: Mapping[str, str]) -> tuple[Config, Mapping[Path, str]]:
    """Read the configuration for printing SQL: a secret whose variable or file is not there is no error.

    Returns the configuration, with a placeholder in such a secret's place (a connection string is empty where it says
    nothing without), and what each lacks by its path.

    Raises:
        ConfigurationError: it cannot be read, or something else in it is wrong.
    """
    text = _text_of(path)
    if isinstance(text, Trouble):
        raise ConfigurationError(str(path), _disclosed([text], None))
    lacking: dict[Path, str] = {}
    outcome = _outcome(text, environ, path.parent, lacking)
    if isinstance(outcome, Config):
        return outcome, lacking
    raise ConfigurationError(str(path), outcome)


def parse(text: str, *, name: str, environ: Mapping[str, str], folder: FilePath | None = None) -> Config:
    """Read the configuration from text.

    Args:
        text: YAML.
        name: what messages call it.
        environ: where `${NAME}` is looked up.
        folder: what a relative `${file:PATH}` is relative to; the current folder if it is not given.

    Raises:
        ConfigurationError: something in it is wrong.
    """
    outcome = _outcome(text, environ, folder or FilePath())
    # Raised out here, as above.
    if isinstance(outcome, Config):
        return outcome
    raise ConfigurationError(name, outcome)


def _text_of(path: FilePath) -> str | Trouble:
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
        if len(content) > LARGEST:
            return Trouble((), "expected a file of at most 1 MiB: this is no configuration")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        return Trouble((), "there is no such file", f"name another with --config; {_WHERE_TO_BEGIN}")
    except IsADirectoryError:
        return Trouble((), "expected a file, and it is a folder", "name the file in it with --config")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return Trouble((), "expected UTF-8 text", "save the file as UTF-8", place=Place(line, 1))
    except OSError as error:
        return Trouble((), f"cannot be read: {error.strerror}", "it must be readable by the user that cdc-sync runs as")


def _outcome(
    text: str, environ: Mapping[str, str], folder: FilePath, lacking: dict[Path, str] | None = None
) -> Config | list[Problem]:
    try:
        root, found = read(text)
    except NotYamlError as error:
        return _disclosed([error.trouble], None)
    if root is None or (isinstance(root, Scalar) and root.value is None):
        return _disclosed([Trouble((), "there is nothing in it", _WHERE_TO_BEGIN)], None)
    values = _Values(environ, folder, lacking)
    data = values.of(root, ())
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        # What could not be put in is not judged as well: it would be called wrong twice.
        found += [
            trouble
            for trouble in wording.troubles(error, lambda path: _at(data, path))
            if not any(trouble.path[:length] in values.missing for length in range(len(trouble.path) + 1))
        ]
    else:
        if not found and not values.troubles:
            return config
    return _disclosed([*found, *values.troubles], root)


class _Values:
    """Turns the tree into plain values, references replaced; what secrets lack goes to `lacking`, if it is given."""

    def __init__(self, environ: Mapping[str, str], folder: FilePath, lacking: dict[Path, str] | None) -> None:
        self.troubles: list[Trouble] = []
        self.missing: set[Path] = set()
        self._environ = environ
        self._folder = folder
        self._lacking = lacking

    def of(self, node: Node, path: Path) -> object:
        match node:
            case Entries():
                return {key: self.of(entry.node, (*path, key)) for key, entry in node.entries.items()}
            case Items():
                return [self.of(item, (*path, position)) for position, item in enumerate(node.items)]
            case Scalar():
                value = node.value
                return self._replaced(value, path) if isinstance(value, str) else value

    def _replaced(self, text: str, path: Path) -> str:
        may_lack = self._lacking is not None and outline.at(path).is_secret
        replaced, mistakes = substitute(text, self._environ, self._folder, UNRESOLVED if may_lack else "")
        if mistakes and self._lacking is not None and may_lack:
            self._lacking[path] = "; ".join(mistake.message for mistake in mistakes)
            return _connecting(replaced) if path[-1:] == ("dsn",) else replaced
        if mistakes:
            self.missing.add(path)
            self.troubles += [Trouble(path, mistake.message, mistake.suggestion) for mistake in mistakes]
        return replaced


def _connecting(dsn: str) -> str:
    """What is a connection string still, though parts of it have no value."""
    try:
        conninfo.check(dsn)
    except Mistake:
        return ""
    return dsn


def _at(data: object, path: Path) -> object:
    for key in path:
        if isinstance(data, dict):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int):
            data = data[key]
    return data


def _disclosed(troubles: Iterable[Trouble], root: Node | None) -> list[Problem]:
    return list(dict.fromkeys(disclose(trouble, root) for trouble in troubles))
