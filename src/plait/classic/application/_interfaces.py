# mypy: disable-error-code="misc,no-untyped-def"
"""What services, their collections and applications offer, as zope interfaces with Twisted's names.

Rules: an interface says what a caller may rely on and holds no code; a method's `self` is left out, as zope has it.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface


class IServiceMaker(Interface):
    """Makes a service of a command line: what a plugin for `plait run NAME`, or for twistd, provides."""

    tapname = Attribute("The name by which the command line asks for it.")
    description = Attribute("One line about it, for people.")
    options = Attribute("A subclass of usage.Options, which parses the rest of the command line.")

    def makeService(options):
        """The service that these options ask for, an IService."""


class IService(Interface):
    """Something that an application starts and stops."""

    name = Attribute("Its name among its siblings, a str; or None.")
    running = Attribute("Whether it runs.")
    parent = Attribute("The collection it is in, or None.")

    def setName(name):
        """Name it. RuntimeError if it has a parent already."""

    def setServiceParent(parent):
        """Put it into a collection, or into what can be adapted to one. RuntimeError if the name is taken there."""

    def disownServiceParent():
        """Take it out of its collection; a Deferred if that has to wait for its stop."""

    def privilegedStartService():
        """Do what has to be done before rights are given up, such as taking a low port."""

    def startService():
        """Start."""

    def stopService():
        """Stop; a Deferred if that takes a while."""


class IServiceCollection(Interface):
    """Something that holds services."""

    def getServiceNamed(name):
        """The service of this name. KeyError if there is none."""

    def __iter__():
        """The services, in the order in which they were added."""

    def addService(service):
        """Hold a service, and start it if this runs. Called by its setServiceParent."""

    def removeService(service):
        """Hold it no longer, and stop it if this runs. Called by its disownServiceParent."""


class IProcess(Interface):
    """How the process of an application shall be."""

    processName = Attribute("What it is called, or None.")
    uid = Attribute("Whose rights it has, a number; None for those it is started with.")
    gid = Attribute("Its group's number; None for the one it is started with.")
