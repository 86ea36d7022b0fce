"""Settings from outside; arguments checked, or left out where nobody takes them; the bar."""
import contextlib
import difflib
import inspect
import io
import numbers
import os
import sys

from IPython.display import Pretty, display
from tqdm import tqdm


def setting(name, default=''):
    """Return an environment variable without the blanks and the quotes around it.

    `%env DCGAN_RUN="/content/drive"` and .env files keep the quotes. Where nothing is left, it is
    the default.
    """
    value = os.environ.get(name, '').strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in '"\'':
        value = value[1:-1].strip()
    return value or default


def check_choice(choices, **values):
    """Raise ValueError, naming the nearest choice, for a value that is not among the choices."""
    for name, value in values.items():
        if value in choices:
            continue
        nearest = difflib.get_close_matches(str(value), map(str, choices), n=1)
        hint = f' Did you mean {nearest[0]!r}?' if nearest else ''
        expected = ', '.join(map(repr, choices))
        raise ValueError(f'{name}: found {value!r}, expected one of {expected}.{hint}')


def is_whole(value):
    """Say whether a value is a whole number, NumPy's among them; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value):
    """Say whether a value is a number, NumPy's among them; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_whole(**values):
    """Raise ValueError for a value that is not a whole number of at least 1."""
    for name, value in values.items():
        if not is_whole(value) or value < 1:
            raise ValueError(f'{name}: found {value!r}, expected a whole number, 1 or more')


def takes(function, name):
    """Say whether a function, or a class when it is built, takes an argument of this name."""
    parameters = inspect.signature(function).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return takes_any or name in parameters


def fitting(function, named):
    """Return those of the named arguments that a function takes: a dict."""
    return {name: value for name, value in named.items() if takes(function, name)}


def call(function, *arguments, silent=False, **named):
    """Call a function; named arguments that it does not take are left out, and that is said.

    silent  what the function prints is not shown
    """
    taken = fitting(function, named)
    left_out = [name for name in named if name not in taken]
    aloud = getattr(sys.stdout, 'aloud', sys.stdout)
    if left_out:
        print(f'{function.__name__} takes no {", ".join(left_out)}: left out.', file=aloud)
    with contextlib.redirect_stdout(_Silence(aloud) if silent else sys.stdout):
        return function(*arguments, **taken)


@contextlib.contextmanager
def whole(name):
    """Within this block a name that a pasted part wants, and no cell defines, is told in words."""
    try:
        yield
    except NameError as error:
        if type(error) is not NameError:             # it is assigned in the part itself, too late
            raise
        raise NameError(f'{name} uses {error.name!r}, which no cell above defines: paste the one '
                        f'that does with it.') from None


class _Silence(io.StringIO):
    """Swallows what is printed; what has to be said all the same goes to .aloud."""

    def __init__(self, aloud):
        super().__init__()
        self.aloud = aloud


def print_what_can_be_printed():
    """Let a terminal show a question mark for what it cannot show, instead of ending the program.

    That is é without UTF-8, and with it the name of a file that is not in UTF-8 itself.
    """
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='replace')


def in_notebook():
    """Say whether what is shown appears under a notebook's cell."""
    return type(sys.stdout).__module__.startswith('ipykernel')


def progress_bar(total, unit, length=None, **options):
    """Make a text progress bar for a notebook or a terminal; elsewhere it stays silent.

    total    a number of steps, to be counted by update(), or a sequence to be gone through
    length   how long the sequence is, where it does not know that itself
    options  handed on to tqdm
    """
    if isinstance(total, int):
        what = dict(total=total or None)
    else:
        what = dict(iterable=total, total=length)
    file = _DisplayArea() if in_notebook() else sys.stdout
    silent = not in_notebook() and not sys.stdout.isatty()
    return tqdm(**what, unit=unit, file=file, disable=silent, leave=False, mininterval=1, **options)


class _DisplayArea:
    """A line of text under a notebook's cell, replaced by each write."""

    def __init__(self):
        self.handle = display(Pretty(''), display_id=True)

    def write(self, text):
        self.handle.update(Pretty(text.strip()))

    def flush(self):
        pass
