"""From the text of a target to an application: modules, files, plugins, composition by file.

`load(text)` gives a Target, whose `resolve` reads its options and whose `build` makes its application;
`plugins()` lists what installed packages offer. docs/compose.md is the guide to composing by file.
"""

from plait.plugins.compose import Composition
from plait.plugins.entries import Plugin, plugins
from plait.plugins.target import Target, load

__all__ = ["Composition", "Plugin", "Target", "load", "plugins"]
