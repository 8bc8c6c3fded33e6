"""Network SLO assertions for Kubernetes clusters that run Calico, as ordinary pytest tests.

The public names are listed in ``__init__.pyi``, where editors and type checkers read them.
"""

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*globals(), *_homes()]


def __getattr__(name: str) -> object:
    # Every pytest run of the environment imports this package: a name loads its home on first use.
    from importlib import import_module

    home = None if name.startswith("__") else _homes().get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(home), name)
    return value


def _homes() -> dict[str, str]:
    """Read the stub file: public name -> the module that it is imported from."""
    import ast
    import pkgutil

    return {
        name.name: str(statement.module)
        for statement in ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"").body
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
    }
