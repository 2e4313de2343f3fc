"""What a plugin's class must look like, checked where it is built, so that a mistake names the plugin and its line.

Free of torch. Only classes of third parties are touched: those of this project are typed and tested.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from diffusability.core.errors import PluginError
from diffusability.core.plugins import registry

#: Modules of this project, whose classes keep their contracts.
_OURS = "diffusability."
_CHECKED = "_diffusability_checked"


@attrs.frozen
class Contract:
    """The class that ``build`` must return an instance of, and what its methods return; None: nothing is expected."""

    place: str
    methods: dict[str, str | None]

    @property
    def base(self) -> type:
        """The class. Imports torch."""
        module, _, name = self.place.partition(":")
        base_class: type = getattr(importlib.import_module(module), name)
        return base_class


CONTRACTS: dict[str, Contract] = {
    "autoencoders": Contract(
        "diffusability.core.contracts.autoencoder:Autoencoder",
        {"encode": "a Posterior", "decode": "a tensor of images"},
    ),
    "denoisers": Contract("diffusability.core.contracts.denoiser:Denoiser", {"forward": "a tensor of predictions"}),
    "objectives": Contract(
        "diffusability.core.contracts.objective:Objective", {"forward": "a StepOutput", "save": None}
    ),
    "regularizers": Contract("diffusability.core.contracts.regularizer:Regularizer", {"forward": "a scalar tensor"}),
    "evaluators": Contract(
        "diffusability.core.contracts.evaluator:Evaluator", {"update": None, "compute": "a list of EvalResult"}
    ),
    "features": Contract("diffusability.core.contracts.features:FeatureExtractor", {"forward": "a tensor of features"}),
    "samplers": Contract("diffusability.core.contracts.sampler:Sampler", {"sample": "a tensor of latents"}),
    "datasets": Contract("diffusability.core.contracts.dataset:Dataset", {"__len__": "a number", "load": "an Example"}),
    "trackers": Contract(
        "diffusability.core.contracts.tracker:Tracker", {"start": None, "log": None, "log_image": None, "finish": None}
    ),
}


def plugin_named(spec_class: type[Any], group: str) -> str:
    """The kind and the distribution of a spec class, for messages."""
    kind = str(getattr(spec_class.model_fields.get("kind"), "default", None))
    try:
        return str(registry.find(group, kind))
    except PluginError:
        return f"{registry.GROUPS[group]} {kind!r} ({spec_class.__module__}.{spec_class.__qualname__})"


def place_of(function: Callable[..., Any]) -> str:
    """File and line of a function's definition, or of that of a class's ``__init__``."""
    definition = inspect.unwrap(function)
    if isinstance(definition, type):
        definition = getattr(definition, "__init__", definition)
    code = getattr(definition, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else "of unknown place"


def signature_fault(owner: type, name: str, base: type) -> str | None:
    """What is wrong with the parameters of a method that a base class calls in its own way, or None."""
    method, wanted = getattr(owner, name), getattr(base, name)
    if not callable(method) or isinstance(inspect.getattr_static(owner, name), staticmethod | classmethod | property):
        return f"{owner.__name__}.{name} is not a method"
    parameters = list(inspect.signature(wanted).parameters.values())
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
    ]
    named = {
        parameter.name: None
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    }
    try:
        signature = inspect.signature(method)
        signature.bind(*positional, **named)
    except TypeError as error:
        listed = ", ".join(str(parameter.name) for parameter in positional)
        return f"{owner.__name__}.{name}{signature} cannot be called as {name}({listed}): {error} ({place_of(method)})"
    return None


def build_fault(spec_class: type[Any], base: type[Any]) -> str | None:
    """What is wrong with the ``build`` of a spec class of a third party, or None."""
    if spec_class.__module__.startswith(_OURS):
        return None
    if spec_class.builds is None and inspect.unwrap(spec_class.build) is inspect.unwrap(base.build):
        return f"{spec_class.__name__} must set builds = 'module:Class', or implement build()"
    return signature_fault(spec_class, "build", base)


def checked_build(build: Callable[..., Any]) -> Callable[..., Any]:
    """A ``build`` that checks how it can be called and what it returns. Raises PluginError."""
    if hasattr(build, _CHECKED):
        return build

    @functools.wraps(build)
    def checked(self: Any, *args: Any, **named: Any) -> Any:
        spec_class = type(self)
        if spec_class.__module__.startswith(_OURS):
            return build(self, *args, **named)
        name = plugin_named(spec_class, self.group)
        base = next(ancestor for ancestor in spec_class.__mro__ if "noun" in ancestor.__dict__)
        fault = build_fault(spec_class, base)
        if fault is not None:
            raise PluginError(f"{name}: {fault}")
        built = noted(name, build, self, *args, **named)
        check_built(name, self.group, built, f"{spec_class.__name__}.build", place_of(build))
        return built

    setattr(checked, _CHECKED, True)
    return checked


def check_built(name: str, group: str, built: Any, maker: str, place: str) -> None:
    """Checks that what was made for a group keeps its contract, now and whenever its methods are called.

    Args:
        name: what the messages call it.
        group: the plugin group.
        built: what was made.
        maker: the function that made it.
        place: where that is defined.

    Raises:
        PluginError: it is something else, or its methods have other parameters.
    """
    contract = CONTRACTS[group]
    if not isinstance(built, contract.base):
        what = "None" if built is None else f"a {type(built).__name__}"
        raise PluginError(f"{name}: {maker} returned {what}; expected a {contract.base.__name__} ({place})")
    _check_methods(name, type(built), contract)


def _check_methods(name: str, owner: type, contract: Contract) -> None:
    """Checks parameters of a built object's methods, and lets each check from now on what it returns."""
    for method, returns in contract.methods.items():
        if _owner_of(owner, method) is None:
            continue
        fault = signature_fault(owner, method, contract.base)
        if fault is not None:
            raise PluginError(f"{name}: {fault}")
        definer = _owner_of(owner, method)
        function = definer.__dict__[method] if definer is not None else None
        if definer is not None and inspect.isfunction(function) and not hasattr(function, _CHECKED):
            setattr(definer, method, _checked_method(name, definer.__name__, function, returns))


def _owner_of(owner: type, method: str) -> type | None:
    """The class of a third party that defines a method; None where it is ours, or torch's."""
    for ancestor in owner.__mro__:
        if method in ancestor.__dict__:
            return None if ancestor.__module__.startswith((_OURS, "torch.")) else ancestor
    return None


def _checked_method(name: str, owner: str, method: Callable[..., Any], returns: str | None) -> Callable[..., Any]:
    @functools.wraps(method)
    def checked(self: Any, *args: Any, **named: Any) -> Any:
        result = noted(name, method, self, *args, **named)
        if result is None and returns is not None:
            raise PluginError(
                f"{name}: {owner}.{method.__name__} returned None; expected {returns} ({place_of(method)})"
            )
        return result

    setattr(checked, _CHECKED, True)
    return checked


def noted(name: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Calls; an error gets a note of the plugin that it comes from, and stays what it is."""
    try:
        return call(*args, **named)
    except Exception as error:
        if name not in notes_of(error):
            error.add_note(f"in {name} ({place_of(call)})")
        raise


def notes_of(error: BaseException) -> str:
    """The notes of an error, one a line."""
    return "\n".join(getattr(error, "__notes__", ()))


def failures(
    plugins: Iterable[registry.Plugin], bases: dict[str, type] | None = None
) -> dict[registry.Plugin, PluginError]:
    """Imports each plugin, looks at its ``build``, and returns those that fail, with the reason."""
    broken = {}
    for plugin in plugins:
        try:
            base = (bases or {}).get(plugin.group)
            fault = build_fault(registry.load(plugin.group, plugin.kind, base), base) if base is not None else None
            if fault is not None:
                broken[plugin] = PluginError(f"{plugin}: {fault}")
        except PluginError as error:
            broken[plugin] = error
    return broken
