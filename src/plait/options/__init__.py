"""Declared, validated, frozen settings of an application or a service, and where each value came from.

Declare a subclass of `Options`; `resolve` merges default < file < env file < environment < command line
into an instance of it, converts text, and collects every problem in one OptionsError. docs/options.md is
the guide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait._lazy import importer

if TYPE_CHECKING:
    from plait.options.declare import Options as Options
    from plait.options.gathering import Gathered as Gathered
    from plait.options.gathering import gather as gather
    from plait.options.meta import Meta as Meta
    from plait.options.resolving import Resolved as Resolved
    from plait.options.resolving import Row as Row
    from plait.options.resolving import finish as finish
    from plait.options.resolving import resolve as resolve
    from plait.options.resolving import wants_help as wants_help
    from plait.options.schema import is_options_class as is_options_class
    from plait.options.schema import schema_of as schema_of
    from plait.options.show import FORMATS as FORMATS
    from plait.options.show import render_help as render_help
    from plait.options.show import render_table as render_table
    from plait.options.show import starting_file as starting_file
    from plait.options.sources import Inputs as Inputs
    from plait.options.sources import Source as Source
    from plait.options.sources import SourceKind as SourceKind
    from plait.options.sources import runner_table as runner_table
    from plait.options.values import Duration as Duration
    from plait.options.values import Secret as Secret
    from plait.options.values import Size as Size
    from plait.options.values import format_duration as format_duration
    from plait.options.values import format_size as format_size
    from plait.options.values import parse_duration as parse_duration
    from plait.options.values import parse_size as parse_size

_HOMES = {
    "Duration": "plait.options.values",
    "FORMATS": "plait.options.show",
    "Gathered": "plait.options.gathering",
    "Inputs": "plait.options.sources",
    "Meta": "plait.options.meta",
    "Options": "plait.options.declare",
    "Resolved": "plait.options.resolving",
    "Row": "plait.options.resolving",
    "Secret": "plait.options.values",
    "Size": "plait.options.values",
    "Source": "plait.options.sources",
    "SourceKind": "plait.options.sources",
    "finish": "plait.options.resolving",
    "format_duration": "plait.options.values",
    "format_size": "plait.options.values",
    "gather": "plait.options.gathering",
    "is_options_class": "plait.options.schema",
    "parse_duration": "plait.options.values",
    "parse_size": "plait.options.values",
    "render_help": "plait.options.show",
    "render_table": "plait.options.show",
    "resolve": "plait.options.resolving",
    "runner_table": "plait.options.sources",
    "schema_of": "plait.options.schema",
    "starting_file": "plait.options.show",
    "wants_help": "plait.options.resolving",
}
"""Imported on use: a Timer takes a Duration, and shall not cost its user msgspec."""

__all__ = list(_HOMES)
__getattr__ = importer(__name__, _HOMES)
