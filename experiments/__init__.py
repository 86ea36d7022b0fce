"""The evidence behind the project's numbers: each runs as python -m experiments.NAME."""
import importlib.util
import sys
import types


def _do_nothing(*arguments, **options):
    pass


# A bare machine has no IPython, and the notebook as a script shows no pictures anyway.
if importlib.util.find_spec('IPython') is None:
    display = types.ModuleType('IPython.display')
    for name in ('HTML', 'Image', 'Pretty', 'display'):
        setattr(display, name, _do_nothing)
    ipython = types.ModuleType('IPython')
    ipython.display = display
    ipython.get_ipython, ipython.version_info = _do_nothing, (99, 0)     # matplotlib asks for them
    sys.modules |= {'IPython': ipython, 'IPython.display': display}
