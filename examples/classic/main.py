"""Runs the chat: `python main.py --port 6022`, and `python main.py --help`."""

import sys

from chat import Options, makeService

from plait.classic.internet import reactor
from plait.classic.python import log, usage


def main():
    options = Options()
    try:
        options.parseOptions()
    except usage.UsageError as error:
        sys.exit(f"{error}\n{options}")
    log.startLogging(sys.stderr, setStdout=False)
    chat = makeService(options)
    reactor.callWhenRunning(chat.startService)
    reactor.addSystemEventTrigger("before", "shutdown", chat.stopService)
    reactor.run()


if __name__ == "__main__":
    main()
