"""Functions and classes from elsewhere, called with as much as they take."""
import inspect


def takes(function, name):
    """Say whether a function, or a class when it is built, takes an argument of this name."""
    parameters = inspect.signature(function).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return takes_any or name in parameters


def fitting(function, named):
    """Return those of the named arguments that a function takes: a dict."""
    return {name: value for name, value in named.items() if takes(function, name)}


def call(function, *arguments, **named):
    """Call a function; named arguments that it does not take are left out, and that is said."""
    taken = fitting(function, named)
    left_out = [name for name in named if name not in taken]
    if left_out:
        print(f'{function.__name__} takes no {", ".join(left_out)}: left out.')
    return function(*arguments, **taken)
