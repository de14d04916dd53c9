"""A line-based chat, written for Twisted: protocols, a factory, and the services that make it.

Written with Twisted's own names alone: with `twisted.` for `plait.classic.` it is a Twisted program. See main.py, which
runs it with options of the command line, and chat.tac, which reads the environment.

    $ nc 127.0.0.1 6022
    * welcome; /nick NAME, /who, /last, /quit
"""

from collections import deque

from plait.classic.application import internet, service
from plait.classic.internet import endpoints, protocol, reactor, task
from plait.classic.logger import Logger
from plait.classic.protocols import basic, policies
from plait.classic.python import usage

log = Logger()

GREETING = "* welcome; /nick NAME, /who, /last, /quit"
KEPT = 20
IDLE = 600


class ChatProtocol(basic.LineReceiver, policies.TimeoutMixin):
    """One who chats: each line is for all, unless it begins with a slash."""

    delimiter = b"\n"
    MAX_LENGTH = 1024
    nick = None

    def connectionMade(self):
        self.setTimeout(IDLE)
        self.nick = self.factory.enter(self)
        self.say(GREETING)

    def connectionLost(self, reason=protocol.connectionDone):
        self.setTimeout(None)
        self.factory.leave(self)

    def lineReceived(self, line):
        self.resetTimeout()
        text = line.decode("utf-8", "replace").strip()
        if text.startswith("/"):
            self.command(*text[1:].split())
        elif text:
            self.factory.tell(f"{self.nick}: {text}")

    def lineLengthExceeded(self, line):
        self.say(f"* a line has at most {self.MAX_LENGTH} bytes")
        self.transport.loseConnection()

    def timeoutConnection(self):
        self.say("* you were silent for too long")
        self.transport.loseConnection()

    def command(self, name="", *words):
        handler = getattr(self, f"do_{name}", None)
        if handler is None:
            self.say(f"* no command /{name}")
            return
        try:
            handler(*words)
        except (TypeError, ValueError):
            self.say(f"* /{name} takes other words")

    def do_nick(self, nick):
        if nick in self.factory.nicks():
            self.say(f"* {nick} is taken")
            return
        old, self.nick = self.nick, nick
        self.factory.tell(f"* {old} is {nick} now")

    def do_who(self):
        self.say("* here: " + ", ".join(sorted(self.factory.nicks())))

    def do_last(self, count="5"):
        for line in list(self.factory.history)[-int(count) :]:
            self.say(line)

    def do_quit(self):
        self.say("* bye")
        self.transport.loseConnection()

    def say(self, text):
        self.sendLine(text.encode())


class ChatFactory(protocol.ServerFactory):
    """All who chat, and what was said last."""

    protocol = ChatProtocol

    def __init__(self):
        self.members = {}
        self.count = 0
        self.history = deque(maxlen=KEPT)

    def enter(self, member):
        self.count += 1
        nick = f"guest{self.count}"
        self.tell(f"* {nick} has come")
        self.members[member] = None
        log.info("{nick} has come from {peer}", nick=nick, peer=member.transport.getPeer())
        return nick

    def leave(self, member):
        if member in self.members:
            del self.members[member]
            self.tell(f"* {member.nick} has gone")

    def nicks(self):
        return {member.nick for member in self.members}

    def tell(self, text):
        self.history.append(text)
        for member in list(self.members):
            member.say(text)


class BotProtocol(basic.LineReceiver):
    """A client that answers "!count" with the number of lines it has heard."""

    delimiter = b"\n"
    heard = 0

    def connectionMade(self):
        self.sendLine(b"/nick bot")

    def lineReceived(self, line):
        self.heard += 1
        if line.endswith(b": !count"):
            answer = task.deferLater(self.factory.clock, 0.01, lambda: f"{self.heard} lines")
            answer.addCallback(lambda text: self.sendLine(text.encode()))
            answer.addErrback(lambda failure: log.failure("no answer", failure))


class BotFactory(protocol.ClientFactory):
    """Makes bots."""

    protocol = BotProtocol
    clock = reactor


class ChatService(service.MultiService):
    """The chat: its server, a timer that tells how many there are, and the bot, if it is wanted."""

    def __init__(self, host, port, announce, bot):
        service.MultiService.__init__(self)
        self.factory = ChatFactory()
        server = internet.TCPServer(port, self.factory, interface=host)
        server.setName("server")
        server.setServiceParent(self)
        timer = internet.TimerService(announce, self.announce)
        timer.setName("timer")
        timer.setServiceParent(self)
        if bot:
            endpoint = endpoints.clientFromString(reactor, f"tcp:{host}:{port}")
            policy = internet.backoffPolicy(initialDelay=0.1, maxDelay=5)
            client = internet.ClientService(endpoint, BotFactory(), retryPolicy=policy)
            client.setName("bot")
            client.setServiceParent(self)

    def announce(self):
        self.factory.tell(f"* {len(self.factory.members)} are here")

    def startService(self):
        service.MultiService.startService(self)
        print("chat starts", flush=True)

    def stopService(self):
        self.factory.tell("* the chat closes")
        stopped = service.MultiService.stopService(self)
        return stopped.addCallback(lambda _: print("chat has stopped", flush=True))


class Options(usage.Options):
    """What main.py, and a plugin for twistd, take on the command line."""

    synopsis = "Usage: main.py [options]"
    longdesc = "A chat of lines: connect to it with nc."
    optFlags = [["no-bot", "B", "Do without the bot."]]
    optParameters = [
        ["port", "p", 6022, "The port to listen on.", usage.portCoerce],
        ["host", "H", "127.0.0.1", "The address to listen on."],
        ["announce", "a", 60.0, "Seconds between announcements.", float],
    ]

    def postOptions(self):
        if self["announce"] <= 0:
            raise usage.UsageError("--announce takes more than 0 seconds")


def makeService(options):
    """The chat that these options ask for."""
    return ChatService(options["host"], options["port"], options["announce"], not options["no-bot"])
