"""Mistyped names: which valid ones are near, for every error message that says so."""

import difflib
from collections.abc import Iterable

_LISTED = 40


def similar(name: str, valid: Iterable[str], count: int = 3) -> list[str]:
    """The valid names most like a mistyped one, the best first; none if there are only others.

    In dotted names a typo most likely stays in its place: `a.depht` is like `a.depth`, and like `b.depht` if there is
    nothing like it in `a`.
    """
    names = sorted(valid)
    parent, _, leaf = name.rpartition(".")
    beside = {full.rpartition(".")[2]: full for full in names if full.rpartition(".")[0] == parent}
    found = [beside[one] for one in difflib.get_close_matches(leaf, beside, count, cutoff=0.6)]
    found = found or [full for full in names if full.rpartition(".")[2] == leaf][:count]
    if not found and not (parent and beside):
        found = difflib.get_close_matches(name, names, count, cutoff=0.75)
    return found


def nearest(name: str, valid: Iterable[str], count: int = 3) -> str:
    """A clause for an error message: the valid names most like a mistyped one, or those beside it if none is."""
    names = sorted(valid)
    found = similar(name, names, count)
    if found:
        return "did you mean " + " or ".join(repr(one) for one in found) + "?"
    parent = name.rpartition(".")[0]
    rest = [full for full in names if full.rpartition(".")[0] == parent] or [full for full in names if "." not in full]
    rest = rest or names
    more = f" and {len(rest) - _LISTED} more" if len(rest) > _LISTED else ""
    return "valid are: " + ", ".join(rest[:_LISTED]) + more if rest else "there are none"


def check_name(name: str, valid: Iterable[str], what: str, where: str = "") -> None:
    """Does nothing for a valid name.

    Args:
        name: what was asked for.
        valid: what there is.
        what: what it is a name of, such as "encoder".
        where: where it stands, to begin the message with.

    Raises:
        ValueError: `unknown encoder 'vjep': did you mean 'vjepa'?`
    """
    names = list(valid)
    if name not in names:
        raise ValueError(f"{where}{': ' * bool(where)}unknown {what} {name!r}: {nearest(name, names)}")
