"""Twisted's `application`: services, and the application that holds them."""
