# Chapter 2.2.2: Service and Options. The handbook forgets to import protocol; its text is
# otherwise as printed, str passed to transport.write included. It runs until stopped by
# SIGINT or SIGTERM, and takes --port N on the command line, or port from a configuration file.
from twisted.application import internet, service
from twisted.internet import protocol, reactor


class EchoService(service.Service):
    def __init__(self, port):
        self.port = port

    def startService(self):
        print("Echo service starting on port", self.port)
        self.factory = internet.TCPServer(self.port, EchoFactory())
        self.service = reactor.listenTCP(self.port, self.factory)

    def stopService(self):
        print("Echo service stopping")
        return self.service.stop()


class EchoFactory(internet.TCPServerFactory):
    def buildProtocol(self, addr):
        return EchoProtocol()


class EchoProtocol(protocol.Protocol):
    def connectionMade(self):
        self.transport.write("Welcome to the Echo Service!\r\n")

    def dataReceived(self, data):
        self.transport.write(data)


options = service.Options("echo")
options.addOpt('port', type='int', default=1234, help='The port to listen on.')
app = service.Application("Echo Application")
echoService = EchoService(options['port'])
app.setService(echoService)
reactor.addSystemEventTrigger('before', 'shutdown', app.stop)
reactor.run()
