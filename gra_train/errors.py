"""The errors that a person can cause and mend. Anything else that is raised is our bug."""


class UserError(ValueError):
    """Wrong input: the message says what was given, what was expected and what to do. Shown without a traceback."""


class LockedError(UserError):
    """Another process owns the run; the message names it."""


class FencedError(RuntimeError):
    """This process lost its run to another owner while it slept; it must stop without writing."""


def nearest(word: str, known: "list[str] | tuple[str, ...] | set[str]", prefix: str = "") -> str:
    """`" Did you mean 'x'?"` for the closest known spelling (shown behind `prefix`), or an empty string."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {prefix + close[0]!r}?" if close else ""
