"""Lines of code by package, without blanks, comments and docstrings: `python tools/count_code.py FOLDER [--files]`.

The text under an attribute's assignment is a docstring too (PEP 257). Denser formatting would make the figure smaller:
`ruff format` decides about that.
"""

import argparse
import ast
import io
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

_NO_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(text: str) -> int:
    counted = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            counted.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, _DOCUMENTED):
            continue
        for before, statement in zip([node, *node.body], node.body, strict=False):
            match statement:
                case ast.Expr(ast.Constant(str())) if isinstance(before, (*_DOCUMENTED, ast.Assign, ast.AnnAssign)):
                    counted.difference_update(range(statement.lineno, (statement.end_lineno or 0) + 1))
    return len(counted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", action="store_true", help="each file, not each package")
    given = parser.parse_args()
    by_file = {path: code_lines(path.read_text(encoding="utf-8")) for path in sorted(given.folder.rglob("*.py"))}
    if given.files:
        for path, lines in sorted(by_file.items(), key=lambda item: -item[1]):
            sys.stdout.write(f"{lines:6}  {path}\n")
    else:
        packages: dict[Path, list[int]] = defaultdict(list)
        for path, lines in by_file.items():
            packages[path.parent].append(lines)
        for package, counts in packages.items():
            sys.stdout.write(f"{sum(counts):6}  {package} ({len(counts)} files)\n")
    sys.stdout.write(f"{sum(by_file.values()):6}  in {len(by_file)} files\n")


if __name__ == "__main__":
    main()
