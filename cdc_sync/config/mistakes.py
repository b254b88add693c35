"""A value that is not what was expected."""


class Mistake(ValueError):  # noqa: N818 - the people who read it made one; the program has no error
    """Raised by the readers of single values; becomes one problem of the report, at the value's place in the file.

    The message says what was expected, never what was found: the value may be a secret that was put in from the
    environment. The report shows what the file has, where that is safe.

    Attributes:
        message: what was expected.
        suggestion: how to repair it, if there is more to say than that.
        about_section: whether it is the section that is wrong, rather than the key whose reader noticed.
    """

    def __init__(self, message: str, suggestion: str | None = None, *, about_section: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion
        self.about_section = about_section
