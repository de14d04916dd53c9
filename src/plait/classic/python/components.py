"""Adapters: what an object of one interface becomes where another is asked for.

Rules: zope.interface keeps the registries and does the lookup; here are Twisted's ways to fill one and to hold the
adapters of one object. An adapter is registered once for a pair of interfaces, unless ALLOW_DUPLICATES is set.
"""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pprint import pprint
from typing import Any

from zope.interface import declarations, interface
from zope.interface.adapter import AdapterRegistry

__all__ = [
    "ALLOW_DUPLICATES",
    "Adapter",
    "CannotAdapt",
    "Componentized",
    "ReprableComponentized",
    "getAdapterFactory",
    "getRegistry",
    "proxyForInterface",
    "registerAdapter",
]

globalRegistry = AdapterRegistry()

ALLOW_DUPLICATES: Any = 0
"""Whether a second adapter for the same pair of interfaces replaces the first, which is an error otherwise."""


CannotAdapt = TypeError
"""What calling an interface raises with an object that can neither provide it nor be adapted to it."""


def getRegistry() -> AdapterRegistry:
    """The registry that `registerAdapter` fills."""
    return globalRegistry


def _specification(thing: Any) -> Any:
    """The interface, or what a class implements."""
    return thing if isinstance(thing, interface.InterfaceClass) else declarations.implementedBy(thing)


def registerAdapter(adapterFactory: Callable[[Any], Any], origInterface: Any, *interfaceClasses: Any) -> None:
    """Have `adapterFactory(object)` adapt what provides `origInterface`, a class or an interface, to the others.

    ValueError if no interface is given, or if one of them has an adapter from there already.
    """
    if not interfaceClasses:
        raise ValueError("registerAdapter takes the interfaces that the adapter provides; name at least one")
    source = _specification(origInterface)
    for wanted in interfaceClasses:
        present = globalRegistry.registered([source], wanted)
        if present is not None and not ALLOW_DUPLICATES:
            raise ValueError(f"{present!r} adapts {origInterface!r} to {wanted!r} already; set ALLOW_DUPLICATES")
    for wanted in interfaceClasses:
        globalRegistry.register([source], wanted, "", adapterFactory)


def getAdapterFactory(fromInterface: Any, toInterface: Any, default: Any) -> Any:
    """What was registered for this pair, or for a base of the first; else the default."""
    found = globalRegistry.lookup1(_specification(fromInterface), toInterface)
    return default if found is None else found


def _addHook(registry: AdapterRegistry) -> Callable[[Any, Any], Any]:
    """Have calls of interfaces look into this registry too; what is returned undoes it, given to `_removeHook`."""

    def hook(wanted: Any, original: Any) -> Any:
        factory = registry.lookup1(declarations.providedBy(original), wanted)
        return None if factory is None else factory(original)

    interface.adapter_hooks.append(hook)
    return hook


def _removeHook(hook: Callable[[Any, Any], Any]) -> None:
    interface.adapter_hooks.remove(hook)


_addHook(globalRegistry)


class Adapter:
    """A base for adapters: keeps the adapted object as `original`, and hands on what it cannot adapt to.

    `temporaryAdapter`: a Componentized makes a new one each time. `multiComponent`: it keeps the adapter for all
    interfaces that the adapter provides, not only for the one that was asked for.
    """

    temporaryAdapter: Any = 0
    multiComponent: Any = 1

    def __init__(self, original: Any) -> None:
        self.original = original

    def __conform__(self, interface: Any) -> Any:
        conform = getattr(self.original, "__conform__", None)
        return conform(interface) if conform is not None else None

    def isuper(self, iface: Any, adapter: Any) -> Any:
        """What the original would be adapted to by other adapters than this one."""
        return self.original.isuper(iface, self)


class Componentized:
    """An object that keeps its adapters: the same one each time, with whatever state it has."""

    persistenceVersion = 1

    def __init__(self) -> None:
        pass  # the components are made room for when there are any, so nobody has to call this

    @property
    def _adapterCache(self) -> dict[Any, Any]:
        cache: dict[Any, Any] = self.__dict__.setdefault("_components", {})
        return cache

    def locateAdapterClass(self, klass: Any, interfaceClass: Any, default: Any) -> Any:
        """The adapter registered from this class to this interface, or the default."""
        return getAdapterFactory(klass, interfaceClass, default)

    def setAdapter(self, interfaceClass: Any, adapterClass: Callable[[Any], Any]) -> None:
        """Keep `adapterClass(self)` for this interface."""
        self.setComponent(interfaceClass, adapterClass(self))

    def addAdapter(self, adapterClass: Callable[[Any], Any], ignoreClass: Any = 0) -> Any:
        """Keep `adapterClass(self)` as `addComponent` does, and return it."""
        adapter = adapterClass(self)
        self.addComponent(adapter, ignoreClass)
        return adapter

    def setComponent(self, interfaceClass: Any, component: Any) -> None:
        """Keep `component` for this interface."""
        self._adapterCache[interfaceClass] = component

    def addComponent(self, component: Any, ignoreClass: Any = 0) -> None:
        """Keep `component` for the interfaces it provides: those its class is the registered adapter for, or all."""
        for provided in declarations.providedBy(component):
            if ignoreClass or self.locateAdapterClass(type(self), provided, None) == component.__class__:
                self._adapterCache[provided] = component

    def unsetComponent(self, interfaceClass: Any) -> None:
        """Forget what is kept for this interface; KeyError if nothing is."""
        del self._adapterCache[interfaceClass]

    def removeComponent(self, component: Any) -> list[Any]:
        """Forget this component; the interfaces it was kept for."""
        kept = [wanted for wanted, present in self._adapterCache.items() if present is component]
        for wanted in kept:
            del self._adapterCache[wanted]
        return kept

    def getComponent(self, interface: Any, default: Any = None) -> Any:
        """What is kept for this interface, else what it is adapted to, which is kept; else the default."""
        kept = self._adapterCache.get(interface, self)
        if kept is not self:
            return kept
        adapter = interface.__adapt__(self)
        if adapter is None:
            return default
        if adapter is not self and not getattr(adapter, "temporaryAdapter", False):
            self._adapterCache[interface] = adapter
            if getattr(adapter, "multiComponent", False):
                self.addComponent(adapter)
        return adapter

    def __conform__(self, interface: Any) -> Any:
        return self.getComponent(interface)


class ReprableComponentized(Componentized):
    """A Componentized whose repr lists what it keeps."""

    def __repr__(self) -> str:
        listed = StringIO()
        pprint({kept.__identifier__: component for kept, component in self._adapterCache.items()}, stream=listed)
        return listed.getvalue()


def proxyForInterface(iface: Any, originalAttribute: str = "original") -> Any:
    """A class that provides `iface` by asking another object, its constructor's argument, for each name of it.

    Subclass it to override some. `originalAttribute` is the attribute that holds the other object.
    """

    def __init__(self: Any, original: Any) -> None:
        setattr(self, originalAttribute, original)

    contents: dict[str, Any] = {name: _ProxyDescriptor(name, originalAttribute) for name in iface}
    contents["__init__"] = __init__
    name = f"(Proxy for {iface.__module__}.{iface.__name__})"
    return declarations.implementer(iface)(type(name, (object,), contents))


class _ProxiedClassMethod:
    """A proxied name, asked of the class: calling it with a proxy first calls that name of its original."""

    def __init__(self, methodName: str, originalAttribute: str) -> None:
        self.__name__ = self.methodName = methodName
        self.originalAttribute = originalAttribute

    def __call__(self, proxy: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(getattr(proxy, self.originalAttribute), self.methodName)(*args, **kwargs)


class _ProxyDescriptor:
    """One name of an interface: reading, setting and deleting it happens to the original."""

    def __init__(self, attributeName: str, originalAttribute: str) -> None:
        self.attributeName = attributeName
        self.originalAttribute = originalAttribute

    def __get__(self, proxy: Any, owner: Any = None) -> Any:
        if proxy is None:
            return _ProxiedClassMethod(self.attributeName, self.originalAttribute)
        return getattr(getattr(proxy, self.originalAttribute), self.attributeName)

    def __set__(self, proxy: Any, value: Any) -> None:
        setattr(getattr(proxy, self.originalAttribute), self.attributeName, value)

    def __delete__(self, proxy: Any) -> None:
        delattr(getattr(proxy, self.originalAttribute), self.attributeName)
