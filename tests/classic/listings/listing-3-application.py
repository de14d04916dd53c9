# Chapters 2.2.1 and 2.3: an Application holds a service; running the event loop starts it,
# shutting down stops it. The import of reactor is missing in one of the handbook's copies;
# the line with reactor.stop is ours, to end the run.
from twisted.application import service
from twisted.internet import reactor


class MyService(service.Service):
    def startService(self):
        print("Service started")

    def stopService(self):
        print("Service stopped")


app = service.Application("My Twisted Application")
myService = MyService()
app.setService(myService)
reactor.addSystemEventTrigger('before', 'shutdown', app.stop)
reactor.callLater(0.2, reactor.stop)
reactor.run()
