# Chapter 2.1.1, asynchronous model. The handbook leaves some_async_operation() open;
# the three lines that define it, and the last one that ends the run, are ours.
from twisted.internet import defer, reactor


def some_async_operation():
    d = defer.Deferred()
    reactor.callLater(0.05, d.callback, 42)
    return d


def callback(result):
    print("Operation completed with result:", result)


def errback(failure):
    print("Operation failed:", failure)


d = some_async_operation()
d.addCallback(callback)
d.addErrback(errback)
reactor.callLater(0.2, reactor.stop)
reactor.run()
