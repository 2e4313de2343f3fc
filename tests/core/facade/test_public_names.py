"""What ``dir``, ``help`` and ``__version__`` show of the four packages."""

import importlib.metadata
import inspect
import pydoc

import pytest

import diffusability.core
import diffusability.eval
import diffusability.models
import diffusability.regularizers
from diffusability.core import PluginError
from diffusability.core.plugins import registry

PACKAGES = (diffusability.core, diffusability.models, diffusability.regularizers, diffusability.eval)
FACADE = (
    "load_autoencoder", "image_set", "score", "Scorecard", "sample", "DiT", "latent_spectrum", "chop_off", "frechet",
    "scale_equivariance_loss", "kl_loss", "load_generator",
)  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_each_package_has_a_version_and_shows_public_names_alone(package):
    """The version of its distribution; every name that ``dir`` shows can be read and is public."""
    assert package.__version__ == importlib.metadata.version(package.__name__.replace(".", "-"))
    names = dir(package)
    assert names == sorted(names)
    assert [name for name in names if name.startswith("_")] == []
    assert all(getattr(package, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name


def test_all_functions_are_in_one_place():
    """``diffusability.core`` shows what the other packages add, and these are the very objects of those packages."""
    assert set(FACADE) <= set(dir(diffusability.core))
    for package in PACKAGES[1:]:
        for name in set(dir(package)) & set(registry.functions()):
            assert getattr(diffusability.core, name) is getattr(package, name)


def test_every_loss_of_the_regularizers_is_public():
    """Each public function of a module in ``terms`` that is called a loss or a penalty."""
    import pkgutil

    from diffusability.regularizers import terms

    losses = set()
    for info in pkgutil.iter_modules(terms.__path__):
        module = importlib.import_module(f"{terms.__name__}.{info.name}")
        functions = inspect.getmembers(module, inspect.isfunction)
        losses |= {
            name
            for name, function in functions
            if function.__module__ == module.__name__ and name.endswith(("_loss", "penalty")) and name[0] != "_"
        }
    assert len(losses) > 12
    assert losses <= set(dir(diffusability.regularizers))


@pytest.mark.parametrize("name", FACADE)
def test_help_is_readable(name):
    """A signature without reprs of objects, shapes spelled out, and a docstring that says what it does."""
    what = getattr(diffusability.core, name)
    text = pydoc.plain(pydoc.render_doc(what))
    first = text.split("\n\n")[1] if inspect.isclass(what) else text
    signature = str(inspect.signature(what))
    assert " at 0x" not in signature
    assert "Validator" not in signature
    assert "beartype" not in signature
    assert len(inspect.getdoc(what) or "") > 40
    assert first


def test_a_function_that_nobody_provides_is_named():
    """As where diffusability-models is not installed."""
    with pytest.raises(PluginError, match="no installed package provides the function 'no_such'"):
        registry.function("no_such")
