"""Declared, validated, frozen settings of an application or a service, and where each value came from.

Declare a subclass of `Options`; `resolve` merges default < file < env file < environment < command line
into an instance of it, converts text, and collects every problem in one OptionsError. docs/options.md is
the guide.
"""

from plait.options.declare import Options
from plait.options.gather import Gathered, gather
from plait.options.meta import Meta
from plait.options.resolve import Resolved, Row, finish, resolve, wants_help
from plait.options.schema import is_options_class, schema_of
from plait.options.show import FORMATS, render_help, render_table, starting_file
from plait.options.sources import Inputs, Source, SourceKind, runner_table
from plait.options.values import (
    Duration,
    Secret,
    Size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

__all__ = [
    "FORMATS",
    "Duration",
    "Gathered",
    "Inputs",
    "Meta",
    "Options",
    "Resolved",
    "Row",
    "Secret",
    "Size",
    "Source",
    "SourceKind",
    "finish",
    "format_duration",
    "format_size",
    "gather",
    "is_options_class",
    "parse_duration",
    "parse_size",
    "render_help",
    "render_table",
    "resolve",
    "runner_table",
    "schema_of",
    "starting_file",
    "wants_help",
]
