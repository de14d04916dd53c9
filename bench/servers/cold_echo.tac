# The file that `twistd -y` is started with: an echo server on the port in ECHO_PORT.
import os

from twisted.application import internet, service
from twisted.internet.protocol import Factory, Protocol


class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


application = service.Application("echo")
echo = internet.TCPServer(int(os.environ["ECHO_PORT"]), Factory.forProtocol(Echo), interface="127.0.0.1")
echo.setServiceParent(application)
